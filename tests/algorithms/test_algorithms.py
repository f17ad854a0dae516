import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import minimand as mm
from minimand.algorithms import ALGORITHMS, as_algorithm, is_map, specification
from minimand.report.citing import bibtex

A = mm.algorithms

OWN = '''
from __future__ import annotations
import minimand as mm

class MyMethod(mm.Algorithm):
    """x_next = x - s grad(x) + m (x - x_previous)."""
    step_size: mm.Coefficient = 1.0
    momentum: mm.Coefficient = 0.25
    def start(self, x): return x, x
    def step(self, state, gradient, k):
        x, previous = state
        return x - self.step_size(k) * gradient(x) + self.momentum(k) * (x - previous), x
    def read(self, state): return state[0]

class NoAlgorithm: pass
number = 3
'''


_half_square: dict[str, Any] = {"gradient": lambda x: x, "prox": lambda v, s: v / (1 + s)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_minimizes_a_quadratic(name: str) -> None:
    """With small steps on f = |x|^2 / 2 the distance to the minimum shrinks, leapfrog's weak instability apart."""
    algorithm = ALGORITHMS[name]()
    if "step_size" in algorithm.coefficient_names():
        algorithm = algorithm.rebind(step_size=0.05)
    if name in ("leapfrog", "input_injection") or any(map(is_map, algorithm.oracles)):
        pytest.skip("not a minimizer, as its text says")
    x = np.ones(3)
    state = algorithm.start(x)
    for k in range(200):
        state = algorithm.step(state, *[_half_square[o.partition("_")[0]] for o in algorithm.oracles], k)
    assert np.abs(algorithm.read(state)).max() < 0.05


@pytest.mark.parametrize("cls", ALGORITHMS.values(), ids=lambda c: c.__name__)
def test_every_file_says_what_it_has_to(cls: type[mm.Algorithm]) -> None:
    text = cls.__doc__ or ""
    assert "=" in text.partition("\n")[0]  # the recurrence
    assert "Converges:" in text
    assert "Network:" in text
    assert bibtex(cls())
    assert set(cls.coefficient_names()) <= COEFFICIENTS
    assert getattr(A, cls.__name__) is cls
    step_size = cls().coefficients().get("step_size", lambda k: 1.0)
    assert float(step_size(0)) == (0.6931 if any(map(is_map, cls.oracles)) else 1.0)  # as published


COEFFICIENTS = {
    *("step_size", "momentum", "damping", "weight", "lookahead", "readout", "progress", "sign", "retained", "injected"),
    *("weights", "mixing", "writing", "reading", "relaxation", "dual_step_size"),
}


@pytest.mark.parametrize("ratio", [0.003, 0.1, 0.7, 1.0])
def test_chebyshev_is_the_best_on_quadratics(ratio: float) -> None:
    """After N steps |x_N / x_0| is |T_N(c - x) / d)| / T_N(c / d) for curvature x, at most 1 / T_N(c / d)."""
    center, half, steps = (1 + ratio) / 2, (1 - ratio) / 2, 7
    x = np.linspace(ratio, 1, 101)
    algorithm = A.Chebyshev(ratio=ratio)
    state = algorithm.start(np.ones_like(x))
    for k in range(steps):
        state = algorithm.step(state, lambda query: x * query, k)
    left = algorithm.read(state)
    if ratio == 1:
        np.testing.assert_allclose(left, 0, atol=1e-12)
    else:
        polynomial = np.polynomial.chebyshev.Chebyshev.basis(steps)
        np.testing.assert_allclose(left, polynomial((center - x) / half) / polynomial(center / half), atol=1e-12)


def test_chebyshev_becomes_the_best_heavy_ball() -> None:
    algorithm, root = A.Chebyshev(ratio=0.04), 0.2
    assert algorithm.scale(60) == pytest.approx(4 / (1 + root) ** 2)
    assert algorithm.momentum(60) == pytest.approx(((1 - root) / (1 + root)) ** 2)


@pytest.mark.parametrize(
    ("ratio", "error"), [(0, ValueError), (1.5, ValueError), (math.nan, ValueError), ("a", TypeError)]
)
def test_chebyshev_needs_a_ratio(ratio: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="Chebyshev.ratio is"):
        A.Chebyshev(ratio=ratio)


def test_input_injection_converges_to_the_minimum_of_its_text() -> None:
    """f(z) + (1 - r) / (2 s r) |z - x_0|^2 for f = |z - 3|^2 / 2, solved by hand."""
    r, s, first = 0.8, 0.25, -1.0
    algorithm = A.InputInjection(step_size=s, retained=r, injected=1 - r)
    state, queries = algorithm.start(first), list[float]()
    for k in range(200):
        queries = []
        state = algorithm.step(state, lambda z, queries=queries: queries.append(z) or z - 3, k)
    weight = (1 - r) / (s * r)
    assert queries[0] == pytest.approx((3 + weight * first) / (1 + weight))


_values = st.one_of(
    st.floats(-1, 1).map(lambda v: round(v, 3)),
    st.tuples(st.floats(-1, 0), st.floats(0, 1)).map(lambda b: mm.Learnable(0.0, round(b[0], 3), round(b[1], 3))),
)


@given(name=st.sampled_from(sorted(ALGORITHMS)), data=st.data())
def test_a_specification_reads_back(name: str, data: Any) -> None:
    cls = ALGORITHMS[name]
    algorithm = cls(**{field: data.draw(_values) for field in cls.coefficient_names()})
    assert as_algorithm(specification(algorithm)) == algorithm


def test_what_may_stand_for_an_algorithm() -> None:
    expected = A.HeavyBall(step_size=1.0, momentum=0.9)
    for given_ in (expected, "heavy_ball(momentum=0.9)", "HeavyBall(momentum=0.9)", " heavy_ball( momentum = 9e-1 ) "):
        assert as_algorithm(given_) == expected
    assert as_algorithm(A.HeavyBall) == A.HeavyBall()
    assert as_algorithm("heavy_ball(momentum=Learnable(0.5, 0, high=1))").learnable()["momentum"].high == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("heavy_bal", ValueError, r"unknown algorithm 'heavy_bal'\. Did you mean 'heavy_ball'"),
        ("heavy_ball(momentm=0.9)", ValueError, "unknown argument of HeavyBall 'momentm'. Did you mean 'momentum'"),
        ("heavy_ball(0.9)", ValueError, "expected a name, or a name with literals"),
        ("heavy_ball(momentum=", ValueError, "cannot read the algorithm"),
        ("heavy_ball(momentum=open('x'))", ValueError, r"cannot read \"open\('x'\)\""),
        ("heavy_ball(momentum=Learnable(0.5))", ValueError, "missing 2 required positional arguments"),
        ("heavy_ball(momentum='much')", TypeError, r"a function of the step k, mm.Learnable\(...\) or mm.Drawn"),
        ("heavy_ball(momentum=1.5)", ValueError, r"outside \[-1, 1\]: the states would grow like 1.5\^k"),
        ("heavy_ball(momentum=Learnable(0.5, 0, 2))", ValueError, r"HeavyBall.momentum is 2, outside \[-1, 1\]"),
        ("heavy_ball(momentum=Learnable(2, 0, 1))", ValueError, "the nearest initial is 1"),
        ("heavy_ball(step_size=1e999)", ValueError, "expected a finite number"),
        ("fista(cap=1.2)", ValueError, r"Fista.cap is 1.2, outside \[0, 1\]. The nearest value that works is 1"),
        ("nowhere.py:MyMethod", ValueError, "no algorithm file 'nowhere.py'"),
        (3, TypeError, "3 is no algorithm"),
        (int, TypeError, "is no algorithm"),
    ],
)
def test_bad_input(text: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_algorithm(text)


def test_nothing_is_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ValueError, match="cannot read"):
        as_algorithm(f"heavy_ball(momentum=__import__('pathlib').Path({str(mark)!r}).touch())")
    assert not mark.exists()


def test_an_algorithm_of_one_s_own_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    algorithm = as_algorithm(f"{file}:MyMethod(step_size=0.5)")
    assert mm.equivalent(algorithm, "heavy_ball(step_size=0.5, momentum=0.25)")
    assert as_algorithm(f"{file}:MyMethod") == type(algorithm)()  # the file is read once


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("MyMethd", ValueError, r"unknown algorithm in own.py 'MyMethd'\. Did you mean 'MyMethod'"),
        ("NoAlgorithm", TypeError, "NoAlgorithm in own.py is no algorithm"),
        ("number", TypeError, "number in own.py is no algorithm"),
    ],
)
def test_a_file_without_the_class(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(error, match=message):
        as_algorithm(f"{tmp_path}/own.py:{name}")


@pytest.mark.parametrize("text", ["import nothing_of_this_name as x", "def broken(:", "x = 1 / 0"])
def test_a_file_that_does_not_import(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(f"{text}\nclass MyMethod:\n    value = x\n")
    before = set(sys.modules)
    with pytest.raises(ValueError, match="broken.py does not import: "):
        as_algorithm(f"{tmp_path}/broken.py:MyMethod")
    assert set(sys.modules) == before


def test_a_schedule_is_checked_where_it_is_used() -> None:
    algorithm = A.HeavyBall(momentum=lambda k: 0.5 * k)
    with pytest.raises(ValueError, match=r"HeavyBall.momentum\(3\) is 1.5, outside"):
        mm.certify(algorithm, depth=6)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("self, state, k", "expected \\(self, state, gradient, k\\)"),
        ("self, state, *gradients, k", "takes \\(self, state, \\*gradients, k\\); expected"),
        ("self, state, gradient_f, gradient_g", "the state first, the step's number last, under any names"),
        ("self, gradient, x, k", "the state first, the step's number last, under any names"),
    ],
)
def test_a_step_has_its_signature(signature: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        exec(f"class Bad(mm.Algorithm):\n    def step({signature}): pass", {"mm": mm})


def test_the_parameters_of_a_step_have_any_names() -> None:
    class Renamed(mm.Algorithm):
        step_size: mm.Coefficient = 1.0
        momentum: mm.Coefficient = 0.5

        def start(self, x):
            return x, x

        def step(self, pair, slope, layer):
            x, previous = pair
            return x - self.step_size(layer) * slope(x) + self.momentum(layer) * (x - previous), x

        def read(self, state):
            return state[0]

    assert Renamed.oracles == ("slope",)
    assert mm.equivalent(Renamed(), "heavy_ball").relation == "identical"
    x, blocks = torch.randn(2, 3), [torch.nn.Linear(3, 3) for _ in range(4)]
    assert torch.equal(mm.unroll(Renamed(), blocks)(x), mm.unroll("heavy_ball", blocks)(x))


def test_coefficients_are_what_is_annotated() -> None:
    class Mixed(mm.Algorithm):
        step_size: mm.Coefficient = Fraction(1, 3)
        repeats: int = 2

        def start(self, x):
            return x

        def step(self, state, gradient, k):
            return state - self.step_size(k) * gradient(state) * self.repeats

        def read(self, state):
            return state

    assert Mixed.coefficient_names() == ("step_size",)
    assert Mixed().repeats == 2
    assert mm.certify(Mixed(), depth=2).gains == pytest.approx((2 / 3, 2 / 3))
    with pytest.raises(AttributeError):
        Mixed().repeats = 3  # type: ignore[misc]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'HeavyBall'"):
        _ = A.HevyBall
