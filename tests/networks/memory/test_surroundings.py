"""Stages that run backwards in several processes, in half precision, and compiled: their gradients."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import minimand as mm
from ranks import on_ranks

from .stages import BLOCKS, SHAPES, difference, remembering, stage

LEARNABLE = "heavy_ball(momentum=Learnable(0.9, 0, 1))"


def _model(memory: Any = "store", exact: bool | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(4)]
    return nn.Sequential(nn.Linear(6, 6), mm.unroll(LEARNABLE, blocks, memory=memory, exact=exact), nn.Linear(6, 2))


def _gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    for _ in range(2):  # the first call runs back once more
        model.zero_grad()
        model(x).square().mean().backward()
    gradients: list[Any] = [p.grad for p in model.parameters()]
    return [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients]


def _batch() -> Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def _sharded(with_stage: bool) -> nn.Module:
    model = _model("reversible")
    if with_stage:
        fully_shard(model[1])
    fully_shard(model)
    return model


def _in_a_process(rank: int, folder: Path) -> tuple[list[list[Tensor]], str]:
    dist.init_process_group("gloo")
    share = _batch()[rank::2]
    models = [DistributedDataParallel(_model("reversible", exact)) for exact in (None, True)]
    gradients = [_gradients(model, share) for model in [*models, _sharded(True), _sharded(False)]]
    with pytest.raises(ValueError, match="is sharded") as caught:
        mm.fit(_model("reversible"), (_batch(), torch.zeros(8, dtype=torch.int64)), parallel="fsdp")
    return gradients, str(caught.value)


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """With DDP, and with FSDP of whole stages; blocks that are sharded one by one are an error."""
    expected = _gradients(_model(), _batch())
    for outcome in on_ranks(2, tmp_path, _in_a_process):
        gradients, message = outcome
        assert all(difference(own, expected) < 1e-5 for own in gradients)
        assert "expected DistributedDataParallel" in message


@pytest.mark.parametrize(("family", "exact"), [*product(BLOCKS, [None, True])])
def test_autocast_is_entered_again(family: str, exact: bool | None) -> None:
    """Both runs of a block are in half precision; gradients are as near to those in single as stored ones are."""
    stored = stage(mm.algorithms.MomentumResidual(), "residual", family).float()
    x = torch.randn(SHAPES[family])

    def gradients(model: nn.Module, enabled: bool = True) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = model(x)
        return list(torch.autograd.grad(y.float().square().sum(), list(model.parameters())))

    single, other = gradients(stored, enabled=False), remembering(stored, "reversible", exact)
    types: list[torch.dtype] = []
    assert difference(gradients(other), single) < 1.3 * difference(gradients(stored), single)
    other.blocks[0].register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    gradients(other)
    assert types == [torch.bfloat16] * 2


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", ["mlp", "cnn with batch norm"])
def test_blocks_that_are_compiled_run_back(family: str) -> None:
    stored = stage(mm.algorithms.MomentumResidual(), "residual", family).float()
    x = torch.randn(SHAPES[family])

    def gradients(model: nn.Module) -> list[Tensor]:
        return list(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))

    expected, other = gradients(stored), remembering(stored, "reversible")
    for block in other.blocks:
        block.compile()
    assert difference(gradients(other), expected) < 1e-5
    whole = mm.compiled(remembering(stored, "reversible"))
    assert difference(gradients(whole), expected) < 1e-5
    torch.compiler.reset()
