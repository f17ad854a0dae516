from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from minimand.theory.scalars import Number, UnknownCoefficientError

_rationals = st.fractions(min_value=-5, max_value=5, max_denominator=60)


@given(a=_rationals, b=_rationals)
def test_arithmetic_is_that_of_fractions(a: Fraction, b: Fraction) -> None:
    x, y = Number.of(a), Number.of(b)
    assert (x + y).value == a + b
    assert (x - y).value == a - b
    assert (x * y).value == a * b
    assert (-x).value == -a
    assert (x**3).value == a**3
    assert (x < y, x <= y, x > y, x == y) == (a < b, a <= b, a > b, a == b)
    if b:
        assert (x / y).value == a / b


@given(a=_rationals, b=st.floats(-3, 3))
def test_floats_may_stand_on_either_side(a: Fraction, b: float) -> None:
    x = Number.of(a)
    for result, expected in ((x + b, float(a) + b), (b - x, b - float(a)), (b * x, b * float(a))):
        assert isinstance(result, Number)
        assert float(result) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("literal", "value", "exact"),
    [
        (0.9, Fraction(9, 10), True),
        (1e-5, Fraction(1, 10**5), True),
        (1 / 3, Fraction(1, 3), True),
        (2 / 7, Fraction(2, 7), True),
        (-0.125, Fraction(-1, 8), True),
        (2**0.5, None, False),
        (0.1 + 0.2, None, False),
    ],
)
def test_a_float_is_the_rational_its_literal_names(literal: float, value: Fraction | None, exact: bool) -> None:
    number = Number.of(literal)
    assert number.exact is exact
    assert float(number) == pytest.approx(literal, abs=1e-15)
    if value is not None:
        assert number.value == value


def test_irrational_values_compare_to_a_tolerance() -> None:
    root = Number.of(2**0.5)
    assert (root * root).same(2)
    assert not (root * root).same(2 + 1e-8)
    assert not Number.of(2).same(2 + 1e-10)  # both exact


@given(values=st.lists(_rationals, min_size=2, max_size=2), a=_rationals, b=_rationals)
def test_polynomials_evaluate_like_what_they_were_made_from(values: list[Fraction], a: Fraction, b: Fraction) -> None:
    m, s = Number.unknown("m"), Number.unknown("s")
    number = (1 + m) * (a * s - m) + b * s**2 - (m - s) * s
    x, y = values
    expected = (1 + x) * (a * y - x) + b * y**2 - (x - y) * y
    terms = {"m": x, "s": y}
    value = sum((c * _monomial(m, terms) for m, c in number.terms.items()), Fraction(0))
    assert value == expected


def _monomial(monomial: tuple, values: dict) -> Fraction:
    product = Fraction(1)
    for name, power in monomial:
        product *= values[name] ** power
    return product


def test_structure_survives_cancellation() -> None:
    m = Number.unknown("m")
    assert ((1 + m) - m).same(1)
    assert not (m - m)


def test_an_unknown_has_no_value() -> None:
    m = Number.unknown("m")
    for use in (lambda: float(m), lambda: m < 1, lambda: 1 / m, lambda: m**0.5):
        with pytest.raises(UnknownCoefficientError, match="learnable"):
            use()


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=60))
def test_what_is_not_exact_stays_short_and_as_near_as_a_float_can_tell(factors: list[float]) -> None:
    product, reference = Number({(): Fraction(1)}, exact=False), Fraction(1)
    for factor in factors:
        product, reference = product * factor / 3, reference * Number.of(factor).value / 3
    assert abs(product.value / reference - 1) < 1e-30
    assert product.value.denominator.bit_length() < 600
