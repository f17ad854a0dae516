import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import minimand as mm
from minimand.theory.symbols import Combination, NonlinearStepError

_vectors = st.lists(st.integers(-9, 9), min_size=3, max_size=3)


@given(u=_vectors, v=_vectors, c=st.integers(-9, 9))
def test_combinations_are_a_vector_space(u: list[int], v: list[int], c: int) -> None:
    def combination(vector: list[int]) -> Any:
        return sum(x * Combination.atom(i) for i, x in enumerate(vector))

    a, b = combination(u), combination(v)
    result = (c * a - b) / 2 + a * 0.5 - 0
    expected = [(c * x - y) / 2 + x / 2 for x, y in zip(u, v, strict=True)]
    assert [float(result.coefficient(i)) for i in range(3)] == expected


def _step(use: Any) -> mm.Algorithm:
    class Odd(mm.Algorithm):
        def start(self, x):
            return (x,)

        def step(self, state, gradient, k):
            (x,) = state
            return (use(x, gradient(x)),)

        def read(self, state):
            return state[0]

    return Odd()


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda x, g: x * g, "multiplies a state or an answer by another"),
        (lambda x, g: x / g, "divides a state or an answer by another"),
        (lambda x, g: 1 / x, "divides by a state"),
        (lambda x, g: x**2, "raises a state to a power"),
        (lambda x, g: x + 1, "adds the constant 1 to a state"),
        (lambda x, g: x - 0.5, "adds the constant -0.5 to a state"),
        (lambda x, g: abs(x), "takes the absolute value"),
        (lambda x, g: x if x > 0 else g, "compares a state"),
        (lambda x, g: x if x else g, "branches on the value of a state"),
        (lambda x, g: x[0], "indexes a state"),
        (lambda x, g: x.relu(), r"uses \.relu of a state"),
        (lambda x, g: torch.relu(x), r"calls torch\.relu on a state"),
        (lambda x, g: torch.add(x, g), r"calls torch\.add on a state"),
        (lambda x, g: np.tanh(x), r"calls numpy\.tanh on a state"),
        (lambda x, g: math.sqrt(x) * g, "turns a state into a number"),
        (lambda x, g: x @ g, "multiplies a state by a matrix"),
        (lambda x, g: x * "2", "multiplies a state by a str"),
    ],
)
def test_what_is_not_linear_is_named_with_its_line(use: Any, what: str) -> None:
    with pytest.raises(NonlinearStepError, match=f"Odd: the step is not linear: it {what}") as caught:
        mm.certify(_step(use))
    assert __file__ in str(caught.value)


def test_the_line_is_the_step_s_own() -> None:
    class Product(mm.Algorithm):
        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            x, z = state
            return x - gradient(x), x * z  # the line

        def read(self, state):
            return state[0]

    with pytest.raises(NonlinearStepError) as caught:
        mm.certify(Product())
    line = int(str(caught.value).partition(f"{__file__}:")[2].partition(")")[0])
    with open(__file__) as file:
        assert "# the line" in file.readlines()[line - 1]


def test_a_combination_prints_as_a_sum() -> None:
    x, y = Combination.atom("x"), Combination.atom("y")
    assert str(x - 1.5 * y) == "x - 3/2 y"
    assert str(-x) == "- x"
    assert str(x - x) == "0"
