"""The arms of the study of skeletons: same weights, and the gains that each is named for."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from minimand.experiments import Bench
from minimand.networks.unrolled import UnrolledLayer
from minimand.studies.skeletons.skeletons_cifar10 import STUDY, network

ARMS = {cell["arm"]: {**cell, "model": "airbench(depth=9, width=4)"} for cell in STUDY.cells_at("smoke")}

DATA = Bench(Path(), None, torch.device("cpu"), lambda label: ()).data_of(next(iter(ARMS.values())))


class Constant(nn.Module):
    """Answers with the same number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


def gains(arm: str) -> list[float]:
    """How strongly each of three blocks reaches the output of the first stage, by running it on constants."""
    values = []
    for k in range(3):
        stage = network(ARMS[arm], DATA, 0).stages[0]
        for i, layer in enumerate(stage.layers):
            assert isinstance(layer, UnrolledLayer)
            own = layer.block  # convolution last, and behind it the factor where there is one
            scaled = [own[-1]] if isinstance(own, nn.Sequential) and isinstance(own[0], nn.Sequential) else []
            layer.block = nn.Sequential(Constant(float(i == k)), *scaled)
        values.append(float(stage(torch.zeros(1, 4, 2, 2)).mean()))
    return values


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_has_the_gains_that_it_is_named_for(arm: str) -> None:
    is_plain = arm in ("gradient descent", "heavy ball with gradient descent's gains")
    assert gains(arm) == pytest.approx([1, 1, 1] if is_plain else [2.71, 1.9, 1])


def test_all_arms_begin_with_the_same_weights() -> None:
    first, *others = ([p.sum() for p in network(cell, DATA, 3).parameters()] for cell in ARMS.values())
    assert all(torch.equal(torch.stack(first), torch.stack(other)) for other in others)
