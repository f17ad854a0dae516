import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minimand as mm
from minimand.experiments.searching.multistep import KNOWN, Multistep, from_parameters, known_parameters, ranges


def _parameters(steps: int) -> st.SearchStrategy[dict[str, float]]:
    bounds = ranges(steps).items()
    return st.fixed_dictionaries(
        {n: st.integers(round(100 * low), round(100 * high)).map(lambda i: i / 100) for n, (low, high) in bounds}
    )


METHODS = st.integers(1, 4).flatmap(_parameters).map(from_parameters)


def _loaded(source: str) -> mm.Algorithm:
    names: dict = {"__name__": "found"}
    exec(compile(source, "found.py", "exec"), names)
    return names["Found"]()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_known_ones_are_what_they_are_called(steps: int) -> None:
    known = known_parameters(steps)
    assert list(known) == list(KNOWN)[: 1 if steps == 1 else 3]
    for name, parameters in known.items():
        assert parameters.keys() == ranges(steps).keys()
        assert all(low <= parameters[n] <= high for n, (low, high) in ranges(steps).items())
        method = from_parameters(parameters)
        assert method.known == name
        relation = mm.equivalent(method.algorithm, name).relation
        assert relation == ("up to read-out" if name == "nesterov_y" else "identical")


@given(parameters=_parameters(3))
def test_two_reflections_give_every_momentum_in_the_triangle(parameters: dict[str, float]) -> None:
    """z^2 - m1 z - m2 has its roots in the disc iff |m2| < 1, m2 + m1 < 1 and m2 - m1 < 1; but for rounding."""
    m1, m2 = from_parameters(parameters).momenta
    assert abs(m2) < 1
    assert m2 + m1 < 1.01
    assert m2 - m1 < 1.01


@settings(max_examples=20)
@given(method=METHODS)
def test_all_go_downhill_and_the_verdict_on_stability_is_that_of_the_roots(method: Multistep) -> None:
    certificate = mm.certify(method.algorithm, depth=4)
    assert certificate.consistent
    assert not certificate.zero_stable or (certificate.order and certificate.speed and certificate.speed > 0)
    assert certificate.exact
    radius = np.abs(np.roots([1, *(-m for m in method.momenta)])).max(initial=0)
    if abs(radius - 1) > 1e-3:
        assert certificate.zero_stable == (radius < 1)
    if len(method.momenta) == 1:
        assert certificate.zero_stable


@settings(max_examples=20)
@given(method=METHODS)
def test_the_source_is_the_same_algorithm(method: Multistep) -> None:
    algorithm = _loaded(method.source(["Found here."]))
    assert mm.equivalent(algorithm, method.algorithm, depth=8).relation == "identical"
    assert {name: float(c(0)) for name, c in algorithm.coefficients().items()} == method.coefficients
    certificates = [mm.certify(a, depth=4).to_dict() for a in (algorithm, method.algorithm)]
    for certificate in certificates:
        del certificate["algorithm"], certificate["memory"]  # its tensors count zero terms too
    assert certificates[0] == certificates[1]


def test_the_formula_has_its_numbers() -> None:
    assert Multistep((0.35,), (1.2, -0.31)).formula == (
        "x_next = x + 0.35 (x - x_previous) - 1.2 grad(x) + 0.31 grad(x_previous)"
    )
    assert Multistep((0.0,), (1.0, 0.0)).formula == "x_next = x - grad(x)"
    assert from_parameters(KNOWN["gradient_descent"]).formula == "x_next = x - grad(x)"
    three = Multistep((-1.0, 0.5), (1.0, 0.0, -2.0)).formula
    assert three == "x_next = x - (x - x_previous1) + 0.5 (x_previous1 - x_previous2) - grad(x) + 2 grad(x_previous2)"


def test_a_name_from_elsewhere_is_no_code() -> None:
    source = Multistep((0.5,), (1.0, 0.0)).source(['Found on """ + print(1 / 0) + """ and \\', "as {x} %s"])
    assert _loaded(source).coefficients()
    assert "'''" in source
