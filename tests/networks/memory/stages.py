"""Stages that run backwards, and the gradients of one under another `memory`."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

import minimand as mm
from helpers import ALGORITHMS as REGISTERED, BINDINGS
from minimand._support.errors import MinimandError
from minimand.algorithms import Algorithm
from minimand.blocks.transformer import transformer
from minimand.networks.memory.choice import backward_recurrence
from minimand.networks.unrolled import Unrolled
from minimand.theory.kernel import Binding


class InTurns(mm.Algorithm):
    """Momentum with two gradients, each a half step of its own (Lie-Trotter splitting)."""

    momentum: mm.Coefficient = 0.8

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        x, v = state
        v = self.momentum(k) * v - gradient_f(x)
        x = x + v
        v = self.momentum(k) * v - gradient_g(x)
        return x + v, v

    def read(self, state: Any) -> Any:
        return state[0]


class Together(InTurns):
    """Momentum with two gradients at one point (Euler splitting)."""

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        x, v = state
        v = self.momentum(k) * v - gradient_f(x) - 0.5 * gradient_g(x)
        return x + v, v


class Coupled(mm.Algorithm):
    """Two streams, each moved by a block of the other (RevNet)."""

    step_size: mm.Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        y, z = state
        z = z - self.step_size(k) * gradient_f(y)
        return y - self.step_size(k) * gradient_g(z), z

    def read(self, state: Any) -> Any:
        y, z = state
        return (y + z) / 2


A = mm.algorithms
_CANDIDATES: dict[str, Algorithm] = {
    **REGISTERED,
    "heavy_ball 0.9": A.HeavyBall(momentum=0.9),
    "general_momentum without a look-ahead": A.GeneralMomentum(lookahead=0, readout=0.3),
    "general_momentum from a velocity": A.GeneralMomentum(lookahead=0, first_velocity="own"),
    "hessian_damped without damping": A.HessianDamped(damping=0),
    "linear_multistep of order 3": A.LinearMultistep(rho=(1, -1.5, 0.75, -0.25)),
    "momentum that is 0 at times": A.HeavyBall(momentum=lambda k: 0.0 if k == 2 else 0.8),
    "in turns": InTurns(),
    "in turns, learnable": InTurns(momentum=mm.Learnable(0.7, 0.2, 1)),
    "together": Together(),
    "coupled": Coupled(),
}


def _runs_back(algorithm: Algorithm) -> bool:
    try:
        backward_recurrence(algorithm, 6, "residual")
    except MinimandError:
        return False
    return True


ALGORITHMS = {name: algorithm for name, algorithm in _CANDIDATES.items() if _runs_back(algorithm)}
"""Every algorithm of the sweeps that runs backwards, and some whose settings or oracles are others."""


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
    )


def _transformer() -> nn.Module:
    map_ = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 6))
    return nn.Sequential(transformer(6, heads=2, drop_path=0.2), map_)


BLOCKS = {"mlp": _mlp, "cnn with batch norm": _cnn, "transformer with dropout": _transformer}
SHAPES = {"mlp": (5, 6), "cnn with batch norm": (3, 4, 5, 5), "transformer with dropout": (4, 3, 6)}
__all__ = ["ALGORITHMS", "BINDINGS", "BLOCKS", "REGISTERED", "SHAPES", "difference", "gradients", "stage"]


def stage(algorithm: Algorithm, binding: Binding, family: str, depth: int = 6, scale: float = 0.3) -> Unrolled:
    """A stage in double precision; its branches are `scale` of their size at the start."""
    torch.manual_seed(0)
    blocks: list[Any] = []
    for _ in range(depth):
        answers = {name: BLOCKS[family]() for name in algorithm.oracles}
        blocks.append(answers if len(answers) > 1 else next(iter(answers.values())))
    unrolled = mm.unroll(algorithm, blocks, binding).double()
    with torch.no_grad():
        for block in unrolled.blocks if binding == "residual" else []:
            for part in block.values() if isinstance(block, nn.ModuleDict) else [block]:
                list(part.parameters())[-2].mul_(scale)
    return unrolled


def remembering(stage: Unrolled, memory: Any, exact: bool | None = None) -> Unrolled:
    """A copy of a stage, weights included, that keeps something else for its backward pass."""
    twin = mm.unroll(stage.algorithm, copy.deepcopy([_block(b) for b in stage.blocks]), stage.binding, memory, exact)
    twin.load_state_dict(stage.state_dict())
    return twin.to(next(stage.parameters()).dtype)


def _block(block: nn.Module) -> Any:
    return dict(block.items()) if isinstance(block, nn.ModuleDict) else block


def gradients(stage: Unrolled, family: str, seed: int = 1) -> list[Tensor]:
    """The output of a stage in training, and the gradients of its inputs and parameters."""
    dtype = next(stage.parameters()).dtype
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(SHAPES[family], generator=generator).to(dtype) for _ in stage.algorithm.inputs]
    for x in inputs:
        x.requires_grad_()
    torch.manual_seed(seed)
    y = stage(inputs[0] if len(inputs) == 1 else tuple(inputs))
    weights = torch.randn(y.shape, generator=generator).to(dtype)
    variables = [*inputs, *stage.parameters()]
    return [y.detach(), *torch.autograd.grad(y, variables, weights, materialize_grads=True)]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """How far two lists of tensors are apart, relative to their size together."""
    squares = sum(float((x - y).double().square().sum()) for x, y in zip(a, b, strict=True))
    return (squares / sum(float(y.double().square().sum()) for y in b)) ** 0.5
