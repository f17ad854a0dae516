"""What the tests sweep over, listed once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import minimand as mm
from minimand.algorithms import Algorithm, is_map, is_proximal
from minimand.blocks.convolutional import bottleneck
from minimand.blocks.densely_connected import DenseLayer
from minimand.blocks.highway import HighwayBranch
from minimand.blocks.proximal import OnUnknown, SoftThreshold
from minimand.blocks.registry import BLOCKS
from minimand.layers.normalization import SwitchNorm
from minimand.layers.residual_scale import ResidualScale
from minimand.networks.unrolled import Unrolled
from minimand.theory.kernel import BINDINGS as BINDINGS, Binding


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
    """An algorithm that keeps every answer; the average of all is added to the newest."""

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
    """The prox of c |p|^2 / 2 with a learnable c, drawn from [0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.rand(()))

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        return point / (1 + step_size * self.c)


def _of(cls: type[Algorithm], **coefficients: Any) -> Algorithm:
    """An algorithm that starts from one input."""
    return cls(**coefficients, **({"first_velocity": "zero"} if hasattr(cls, "first_velocity") else {}))


def _learnable(cls: type[Algorithm]) -> Algorithm:
    return _of(cls, **{name: mm.Learnable(0.5, low=-0.5, high=0.9) for name in cls.coefficient_names()})


A = mm.algorithms

ALGORITHMS: dict[str, Algorithm] = {
    **{name: _of(cls) for name, cls in mm.algorithms.ALGORITHMS.items()},
    **{f"{name} learnable": _learnable(cls) for name, cls in mm.algorithms.ALGORITHMS.items()},
    "fista capped": A.Fista(cap=0.4),
    "dense_nesterov capped": A.DenseNesterov(cap=0.4),
    "linear_multistep of three steps": A.LinearMultistep(rho=(1, -1.5, 0.75, -0.25), sigma=(0.5, 0.25, -0.125)),
    "runge_kutta midpoint": A.RungeKutta(tableau=((0.5,), (0, 1))),
    "heavy_ball still": A.HeavyBall(momentum=0),
    "heavy_ball frictionless": A.HeavyBall(momentum=1),
    "heavy_ball slow": A.HeavyBall(step_size=0.01, momentum=0.9),
    "heavy_ball scheduled": A.HeavyBall(momentum=lambda k: k / (k + 3)),
    "nesterov scheduled": A.Nesterov(momentum=lambda k: k / (k + 3)),
    "hyper_connections doubly stochastic": A.HyperConnections(streams=3, doubly_stochastic=True),
    "two oracles": TwoOracles(),
    "two oracles learnable": _learnable(TwoOracles),
    "growing": Growing(),
}
"""Every built-in algorithm, with its defaults and learnable, and variants that no built-in covers."""


class Family(NamedTuple):
    """A family of blocks that keep a shape."""

    shape: tuple[int, ...]
    """The shape of a batch."""
    block: Callable[[], nn.Module]
    prox: Callable[[], nn.Module] = Shrink
    """The block for the prox of an algorithm that has one."""


FAMILIES: dict[str, Family] = {
    **{name: Family(family.shape, family.example) for name, family in BLOCKS.items()},
    "linear": Family((3, 6), lambda: nn.Linear(6, 6)),
    "sparse": Family((3, 6), lambda: OnUnknown(nn.Linear(6, 4)), lambda: SoftThreshold(4, 0.1, learned=True)),
    "resnext": Family((3, 8, 5, 5), lambda: bottleneck(8, 8, groups=2, widening=2)),
    # Scaled, as with weights of 0 its gate is half open and T is not 0.
    "highway": Family((3, 6), lambda: nn.Sequential(HighwayBranch(6), ResidualScale(nn.Linear(6, 6), "fixup"))),
    "switchable": Family((3, 2, 3), lambda: nn.Sequential(nn.Conv1d(2, 2, 1), SwitchNorm(2), nn.Conv1d(2, 2, 1))),
    # Mixed, as a dense layer does not read the slot that it fills: under `operator` nothing of the input would be left.
    # In training mode its batch norm would divide by the variance of slots yet empty.
    "dense": Family((2, 8, 5, 5), lambda: nn.Sequential(nn.Conv2d(8, 8, 1), DenseLayer(4, 2, k=1, layers=2)).eval()),
}
"""Every kind of blocks in the registry, and some that are made of them or of what is no block alone."""


def make_blocks(algorithm: Algorithm, depth: int, family: str = "two_layer") -> list[Any]:
    """Blocks for `depth` layers, one for each oracle."""
    shape, block, prox = FAMILIES[family]

    def answer(oracle: str) -> nn.Module:
        if is_map(oracle):
            return nn.LayerNorm(shape[-1], bias=False)
        return prox() if is_proximal(oracle) else block()

    if len(algorithm.oracles) == 1:
        return [answer(algorithm.oracles[0]) for _ in range(depth)]
    return [{oracle: answer(oracle) for oracle in algorithm.oracles} for _ in range(depth)]


def make_stage(
    algorithm: Algorithm, binding: Binding, depth: int = 4, family: str = "two_layer", seed: int = 0
) -> Unrolled:
    """A stage in double precision; in evaluation where coefficients would be drawn in training."""
    torch.manual_seed(seed)
    stage = mm.unroll(algorithm, make_blocks(algorithm, depth, family), binding).double()
    return stage.eval() if algorithm.drawn() else stage


def by_layers(stage: Unrolled, x: Tensor) -> Tensor:
    """The stage's output, step by step, as the algorithm is written."""
    state = stage.start(x)
    for layer in stage.layers:
        state = layer(state)
    return stage.read(state)


class Residual(nn.Module):
    """A block of a width of 6 that keeps the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x).tanh()
