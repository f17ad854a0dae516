"""The algorithms inside a model, unrolled and rewired alike."""

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.networks.skeletons import skeletons

LEARNABLE = "heavy_ball(momentum=Learnable(0.5, 0, 1))"


def _blocks(count: int) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(count)]


def _unrolled() -> tuple[nn.Module, torch.Tensor]:
    model = nn.Sequential(nn.Linear(3, 4), mm.unroll(LEARNABLE, ["two_layer(width=4)"] * 3), nn.Linear(4, 2))
    return model, model.get_parameter("1.coefficients.momentum")


def _rewired() -> tuple[nn.Module, torch.Tensor]:
    model = mm.rewire(nn.Sequential(nn.Linear(3, 4), nn.Sequential(*_blocks(3)), nn.Linear(4, 2)), LEARNABLE)
    return model, model.get_parameter("1.0.rewired_momentum")


@pytest.mark.parametrize(("make", "binding"), [(_unrolled, "residual"), (_rewired, "operator")])
def test_a_skeleton_tells_its_algorithm_its_blocks_and_its_coefficients(make, binding: str) -> None:
    model, momentum = make()
    (skeleton,) = skeletons(model)
    assert (skeleton.depth, skeleton.binding, skeleton.is_wired) == (3, binding, make is _rewired)
    assert skeleton.algorithm.learnable().keys() == {"momentum"}
    assert all(model.get_submodule(name) is block for name, block in zip(skeleton.names, skeleton.blocks, strict=True))
    with torch.no_grad():
        momentum.copy_(torch.tensor([0.25, -1.0, 3.0]))
    assert [skeleton.learned.coefficients()["momentum"](k) for k in range(3)] == [0.25, 0.0, 1.0]
    skeleton.project()
    assert momentum.tolist() == [0.25, 0.0, 1.0]
    assert skeleton.algorithm.learnable()["momentum"].initial == 0.5


def test_every_stage_of_a_network_is_a_skeleton_and_a_plain_model_has_none() -> None:
    model = mm.create_model("resnet20", width=4)
    assert [skeleton.depth for skeleton in skeletons(model)] == [len(stage.layers) for stage in model.stages]
    assert skeletons(nn.Sequential(*_blocks(3))) == []
