import dataclasses
import functools

import pytest
from hypothesis import given, strategies as st

import minimand as mm
from helpers import ALGORITHMS
from sweeps import thin

A = mm.algorithms


@given(m=st.sampled_from([0.1, 0.5, 0.9, 1 / 3, 2**-0.5]), s=st.sampled_from([1.0, 0.3]))
def test_known_equivalences(m: float, s: float) -> None:
    pair = mm.equivalent(A.Nesterov(s, m), A.NesterovY(s, m))
    assert pair
    assert pair.relation == "identical"
    assert mm.equivalent(A.HeavyBall(s * (1 - m), m), A.MomentumResidual(s, m))
    assert mm.equivalent(A.HessianDamped(s, m, 0.0), A.HeavyBall(s, m))
    assert mm.equivalent(A.HeavyBall(s, 0.0), A.GradientDescent(s))


def test_nesterov_is_hessian_damped_up_to_the_read_out() -> None:
    """The queries of Nesterov follow b1 = 1 + m, b0 = -m; DIN reads them out, Nesterov reads x."""
    equivalence = mm.equivalent(A.Nesterov(momentum=0.3), A.HessianDamped(momentum=0.3, damping=0.3))
    assert equivalence
    assert equivalence.relation == "up to read-out"


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        ("heavy_ball", "nesterov", "different"),
        ("heavy_ball", "gradient_descent", "different"),
        ("leapfrog", "gradient_descent", "different"),
        ("heavy_ball(momentum=0.5)", "heavy_ball(momentum=0.50000001)", "different"),
        ("heavy_ball(momentum=0.9)", "momentum_residual(momentum=0.9)", "rescaled"),
        ("gradient_descent(step_size=2)", "gradient_descent", "rescaled"),
    ],
)
def test_pairs_that_are_not_the_same_network(a: str, b: str, relation: str) -> None:
    equivalence = mm.equivalent(a, b)
    assert not equivalence
    assert equivalence.relation == relation
    assert equivalence.difference


def test_a_rescaling_names_its_factor() -> None:
    equivalence = mm.equivalent("heavy_ball(momentum=0.9)", "momentum_residual(momentum=0.9)")
    assert equivalence.scale == pytest.approx(10)
    assert "every block multiplied by 10" in str(equivalence)


def test_oracles_correspond_by_position() -> None:
    class Renamed(mm.Algorithm):
        step_size: mm.Coefficient = 0.5

        def start(self, x):
            return ALGORITHMS["two oracles"].start(x)

        def step(self, state, gradient_a, gradient_b, k):
            return ALGORITHMS["two oracles"].step(state, gradient_a, gradient_b, k)

        def read(self, state):
            return ALGORITHMS["two oracles"].read(state)

    assert mm.equivalent(Renamed(), ALGORITHMS["two oracles"])

    class Backwards(Renamed):
        """Names in the other order of the alphabet, asked in the other order."""

        def step(self, state, gradient_z, gradient_a, k):  # pyright: ignore[reportIncompatibleMethodOverride]
            x, z = state
            z = z - self.step_size(k) * gradient_a(z)
            return x - self.step_size(k) * gradient_z(x) + 0.5 * z, z

    class Forwards(Renamed):
        def step(self, state, gradient_a, gradient_b, k):
            x, z = state
            first, second = gradient_a(x), gradient_b(z)
            return x - self.step_size(k) * first + 0.5 * (z - self.step_size(k) * second), z - self.step_size(
                k
            ) * second

    assert mm.equivalent(Backwards(), Forwards()).relation == "identical"
    different = mm.equivalent(ALGORITHMS["two oracles"], "heavy_ball")
    assert different.relation == "different"
    assert "other oracles" in different.difference


def test_irrational_coefficients_compare_to_a_tolerance() -> None:
    root = 2**-0.5
    equivalence = mm.equivalent(A.HeavyBall(1 - root, root), A.MomentumResidual(1.0, root))
    assert equivalence
    assert not equivalence.exact
    assert "to 1e-9" in str(equivalence)
    assert mm.equivalent("heavy_ball", "heavy_ball").exact


# One of each kind: constant coefficients, coefficients of k, several oracles, all the answers so far.
_DISGUISED = (A.HeavyBall, A.Fista, A.LinearizedADMM, A.DenseNesterov)


@pytest.mark.parametrize("cls", thin(A.ALGORITHMS.values(), _DISGUISED), ids=lambda cls: cls.__name__)
def test_every_algorithm_in_disguise_is_identified(cls: type[mm.Algorithm]) -> None:
    """The same recurrence under another name and with other coefficients."""
    values = {name: round(0.3 + 0.1 * i, 1) for i, name in enumerate(cls.coefficient_names())}
    original = cls(**values)
    with_velocity = getattr(original, "first_velocity", "zero") != "zero"

    class Disguise(mm.Algorithm):
        @functools.wraps(cls.start if with_velocity else mm.Algorithm.start)  # the signature says what it takes
        def start(self, *arguments):  # pyright: ignore[reportIncompatibleMethodOverride]
            return original.start(*arguments)

        def read(self, state):
            return original.read(state)

        @functools.wraps(cls.step)  # the signature says how many oracles it asks
        def step(self, *arguments):  # pyright: ignore[reportIncompatibleMethodOverride]
            return original.step(*arguments)

    result = mm.identify(Disguise())
    assert result.algorithm is not None
    assert mm.equivalent(result.algorithm, original).relation == "identical"
    # Those of the first are read off for a step size of 1, and what is drawn by itself is not fitted.
    if cls is not A.LinearMultistep and not cls().drawn():
        assert any(match.second == str(original) or result.algorithm == original for match in result.matches)


def test_an_unknown_algorithm_is_not_identified() -> None:
    class Own(mm.Algorithm):
        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            x, z = state
            return x - gradient((x + z) / 2), z - 0.1 * gradient((x + z) / 2)

        def read(self, state):
            return state[0]

    assert not mm.identify(Own())
    assert not mm.identify(ALGORITHMS["growing"])
    assert "none of the" in str(mm.identify(Own()))


@pytest.mark.parametrize(
    ("original", "expected"),
    thin(
        [
            ("heavy_ball(momentum=1)", "heavy_ball"),
            ("heavy_ball(step_size=0.1, momentum=0.9999)", "heavy_ball"),
            ("gradient_descent(step_size=1e-8)", "gradient_descent"),
            ("linear_multistep(rho=(1, -1, 0), sigma=(1.5, -0.5))", "adams_bashforth2"),
            ("order_two_momentum(momentum=-1)", "leapfrog"),
            ("quasi_hyperbolic(momentum=0.5, weight=1)", "momentum_residual"),
            ("runge_kutta(tableau=((0.5,), (0, 1)))", "extragradient"),
            ("dense_nesterov", "fista"),
            ("multiplier_free_admm", "linearized_admm"),
            ("leapfrog", "hessian_damped"),
        ],
        keep=[
            ("leapfrog", "hessian_damped"),
            ("linear_multistep(rho=(1, -1, 0), sigma=(1.5, -0.5))", "adams_bashforth2"),
            ("quasi_hyperbolic(momentum=0.5, weight=1)", "momentum_residual"),
            ("multiplier_free_admm", "linearized_admm"),
        ],
    ),
)
def test_relations_of_the_facts_are_found(original: str, expected: str) -> None:
    assert any(
        match.second.startswith(A.ALGORITHMS[expected].__name__ + "(") for match in mm.identify(original).matches
    )


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(A.Fista(cap=0.5), marks=pytest.mark.soak),
        A.TripleMomentum(step_size=0.5, rate=0.4),
        A.LinearMultistep(rho=(1, -1.5, 0.75, -0.25), sigma=(0.5, 0.25, -0.125)),
        A.RungeKutta(step_size=0.5),
    ],
    ids=str,
)
def test_fields_that_are_no_coefficients_are_found(original: mm.Algorithm) -> None:
    cls = type(original)
    disguised = type("Disguise", (cls,), {})(
        **{f.name: getattr(original, f.name) for f in dataclasses.fields(original)}
    )
    result = mm.identify(disguised)
    assert result.algorithm is not None
    assert type(result.algorithm) is cls
    assert str(result.algorithm) == str(original) or mm.equivalent(result.algorithm, original).relation == "identical"
    assert "e-1" not in str(result)  # what is 0 is printed as 0


def test_deep_networks_are_identified_by_simple_numbers_and_growing_memories_over_fewer_layers() -> None:
    matches = [str(match) for match in mm.identify("gradient_descent", depth=200).matches]
    growing = [line for line in matches if "DenseNesterov" in line]
    assert growing[0].endswith("DenseNesterov(step_size=1.0, cap=0.0) (64 layers, exactly)")
    assert any(line.endswith("Nesterov(step_size=1.0, momentum=0.0) (200 layers, exactly)") for line in matches)


@pytest.mark.parametrize("depth", [40, 200])
def test_deep_networks_compare_as_shallow_ones(depth: int) -> None:
    for a, b, relation in (
        ("nesterov", "nesterov_y", "identical"),
        ("dense_nesterov", "fista", "up to read-out"),
        ("heavy_ball(momentum=0.9)", "momentum_residual(momentum=0.9)", "rescaled"),
        ("leapfrog", "gradient_descent", "different"),
    ):
        if depth < 100 or not a.startswith("dense"):
            assert mm.equivalent(a, b, depth).relation == relation
