"""Programs are checked against the kernel, and on random linear algorithms."""

from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

import minimand as mm
from helpers import ALGORITHMS, BINDINGS, by_layers, make_stage
from minimand.algorithms import Read, is_proximal
from minimand.networks.realization.cheapest import _Machine, _policies, cheapest_program
from minimand.networks.realization.program import Add, Ask, Scale
from minimand.theory.kernel import INPUT, Answer, Binding, exactly, kernel
from minimand.theory.scalars import Number
from minimand.theory.symbols import Combination
from sweeps import thin

# With a prox a stage runs as the algorithm is written.
PROGRAMMED = {name: a for name, a in ALGORITHMS.items() if not any(map(is_proximal, a.oracles))}


def _check(algorithm: mm.Algorithm, depth: int, binding: Binding) -> None:
    """Every policy's program asks the kernel's queries and ends in the kernel's output, exactly."""
    expected = kernel(algorithm, depth, binding)
    for policy in _policies():
        program = _Machine(exactly(algorithm), binding, *policy).run(depth)
        registers: dict[int, Combination] = {0: Combination.atom(INPUT)}
        queries = []
        calls: dict[tuple[int, str], int] = {}
        for instruction in program.instructions:
            match instruction:
                case Ask(target, layer, oracle, point):
                    call = calls[layer, oracle] = calls.get((layer, oracle), -1) + 1
                    queries.append(registers[point])
                    registers[target] = Combination.atom(Answer(layer, oracle, call))
                case Add(target, left, right, a, b):
                    registers[target] = a * registers[left] + b * registers[right]
                case Scale(target, source, factor):
                    registers[target] = factor * registers[source]
        assert registers[program.output].same(expected.output)
        assert len(queries) == len(expected.queries)
        assert all(p.same(q.point) for p, q in zip(queries, expected.queries, strict=True))


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", PROGRAMMED)
def test_every_program_computes_the_kernel(name: str, binding: Binding) -> None:
    _check(PROGRAMMED[name], 6, binding)


_small = st.integers(-6, 6).map(lambda n: n / 4)


@given(
    a=st.lists(_small, min_size=9, max_size=9),
    b=st.lists(_small, min_size=3, max_size=3),
    binding=st.sampled_from(BINDINGS),
)
def test_random_linear_algorithms_keep_their_kernel(a: list[float], b: list[float], binding: Binding) -> None:
    class Random(mm.Algorithm):
        def start(self, x):
            return x, x, 0 * x

        def step(self, state, gradient, k):
            answer = gradient(state[0])
            return tuple(sum(a[3 * i + j] * state[j] for j in range(3)) + b[i] * answer for i in range(3))

        def read(self, state):
            return state[0] + state[1]

    _check(Random(), 4, binding)


def _passes(name: str, binding: Binding = "residual", depth: int = 9, **coefficients: Any) -> int:
    unknown = {key: _unknown(key) for key in coefficients}
    algorithm = mm.algorithms.ALGORITHMS[name]().rebind(**unknown)
    return cheapest_program(exactly(algorithm), depth, binding).cost


def _unknown(name: str) -> Read:
    return Read(lambda k: Number.unknown((name, k)))


def test_programs_are_cheap() -> None:
    """Passes over memory in a training step of nine layers; a residual network makes one forward and one back."""
    assert _passes("gradient_descent") == 2 * 9
    assert _passes("gradient_descent", "operator") == 0
    assert _passes("leapfrog") <= 2 * 9 + 9
    assert _passes("heavy_ball") <= 5 * 9
    assert _passes("nesterov") <= 6 * 9
    assert _passes("nesterov_y") == _passes("nesterov")
    assert _passes("heavy_ball", momentum=None) <= 7 * 9


def test_no_program_grows_faster_than_depth() -> None:
    """What is cheapest for six layers of a learnable Nesterov is quadratic in depth."""
    assert _passes("nesterov", depth=60, momentum=None) < 2.2 * _passes("nesterov", depth=30, momentum=None)


def test_heavy_ball_runs_on_a_velocity() -> None:
    """The previous x that the algorithm is written with is not kept: v = T + m v, x = x + v."""
    program = cheapest_program(exactly(mm.algorithms.HeavyBall(momentum=0.25)), 5, "residual")
    factors = [(str(i.left_factor), str(i.right_factor)) for i in program.instructions if isinstance(i, Add)]
    assert factors == [("1", "1")] + [("1", "1/4"), ("1", "1")] * 4


_ROUNDED = ("heavy_ball", "fista", "leapfrog", "extragradient", "linearized_admm")


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", thin([name for name in PROGRAMMED if "learnable" not in name], _ROUNDED))
def test_no_program_rounds_much_worse_than_the_algorithm_as_written(name: str, binding: Binding) -> None:
    """In single precision, against the layers in double."""
    stage = make_stage(PROGRAMMED[name], binding, depth=18)
    x = torch.randn(8, 6, dtype=torch.double)
    with torch.no_grad():
        exact = by_layers(stage, x)
        stage.float()
        fast, written = stage(x.float()), by_layers(stage, x.float())
        rounding = (written - exact).norm() / exact.norm()
        assert (fast - exact).norm() / exact.norm() <= max(10 * float(rounding), 1e-5)
