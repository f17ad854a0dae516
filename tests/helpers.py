"""What the tests sweep over, listed once."""

from typing import Any

import torch
from torch import Tensor, nn

import minimand as mm
from minimand.algorithms import Algorithm, builtin
from minimand.blocks.convnext import ConvNeXtBranch
from minimand.blocks.transformer import TransformerBranch
from minimand.networks import Unrolled
from minimand.theory.kernel import BINDINGS as BINDINGS
from minimand.theory.kernel import Binding


class TwoOracles(mm.Algorithm):
    """Two gradients, one after the other, and a stream for each."""

    step_size: mm.Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        x, z = state
        s = self.step_size(k)
        x = (x + z) / 2 - s * gradient_f(x)
        return x, z - s * gradient_g((x + z) / 2)

    def read(self, state: Any) -> Any:
        return (state[0] + state[1]) / 2


class Growing(mm.Algorithm):
    """Keeps every answer; the average of all is added to the newest."""

    step_size: mm.Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return (x,)

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, *answers = state
        answers = [*answers, gradient(x)]
        return x - self.step_size(k) * (answers[-1] + sum(answers) / len(answers)) / 2, *answers

    def read(self, state: Any) -> Any:
        return state[0]


class Shrink(mm.blocks.Prox):
    """The prox of c |p|^2 / 2: linear, so that the symbolic reading predicts it."""

    def __init__(self, c: float = 0.3) -> None:
        super().__init__()
        self.c = c

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        return point / (1 + step_size * self.c)


def _learnable(cls: type[Algorithm]) -> Algorithm:
    return cls(**{name: mm.Learnable(0.5, low=-0.5, high=0.9) for name in cls.coefficient_names()})


A = mm.algorithms

ALGORITHMS: dict[str, Algorithm] = {
    **{name: cls() for name, cls in builtin.items()},
    **{f"{name} learnable": _learnable(cls) for name, cls in builtin.items()},
    "fista capped": A.Fista(cap=0.4),
    "dense_nesterov capped": A.DenseNesterov(cap=0.4),
    "linear_multistep of three steps": A.LinearMultistep(rho=(1, -1.5, 0.75, -0.25), sigma=(0.5, 0.25, -0.125)),
    "runge_kutta midpoint": A.RungeKutta(tableau=((0.5,), (0, 1))),
    "heavy_ball still": A.HeavyBall(momentum=0),
    "heavy_ball frictionless": A.HeavyBall(momentum=1),
    "heavy_ball slow": A.HeavyBall(step_size=0.01, momentum=0.9),
    "heavy_ball scheduled": A.HeavyBall(momentum=lambda k: k / (k + 3)),
    "nesterov scheduled": A.Nesterov(momentum=lambda k: k / (k + 3)),
    "two oracles": TwoOracles(),
    "two oracles learnable": _learnable(TwoOracles),
    "growing": Growing(),
}
"""Every built-in algorithm, with its defaults and learnable, and kinds that no built-in is."""

SHAPES: dict[str, tuple[int, ...]] = {
    "dense": (3, 6),
    "convolutional": (3, 4, 5, 5),
    "convnext": (2, 4, 5, 5),
    "transformer": (2, 3, 6),
}
"""The shape of a batch, by family of blocks."""


def make_block(family: str) -> nn.Module:
    """A block that keeps the family's shape; its activation is smooth, so that finite differences apply."""
    if family == "dense":
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))
    if family == "convnext":
        return ConvNeXtBranch(4, layer_scale=0.5)
    if family == "transformer":
        return TransformerBranch(6, heads=2)
    return nn.Sequential(nn.Conv2d(4, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.Tanh(), nn.Conv2d(3, 4, 3, padding=1))


def make_blocks(algorithm: Algorithm, depth: int, family: str = "dense") -> Any:
    """Blocks for `depth` layers, one for each oracle."""
    if len(algorithm.oracles) == 1:
        return [make_block(family) for _ in range(depth)]
    return [{o: Shrink() if o == "prox" else make_block(family) for o in algorithm.oracles} for _ in range(depth)]


def make_stage(
    algorithm: Algorithm, binding: Binding, depth: int = 4, family: str = "dense", seed: int = 0
) -> Unrolled:
    """A stage in double precision."""
    torch.manual_seed(seed)
    return mm.unroll(algorithm, make_blocks(algorithm, depth, family), binding).double()


def by_layers(stage: Unrolled, x: Tensor) -> Tensor:
    """The stage's output, step by step, as the algorithm is written."""
    state = stage.start(x)
    for layer in stage.layers:
        state = layer(state)
    return stage.read(state)
