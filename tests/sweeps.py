"""Products of registries: what each run of the tests has of them, and the rest, which `make soak` adds."""

from collections.abc import Collection, Iterable
from itertools import product
from typing import Any

import pytest


def thin(cases: Iterable[Any], keep: Collection[Any]) -> list[Any]:
    """Parameters of a test: all cases, those that are not in `keep` marked `soak`."""
    cases = list(cases)
    missing = [case for case in keep if case not in cases]
    assert not missing, f"{missing} are to be kept, but are no cases"
    return [case if case in keep else _soak(case) for case in cases]


def crossed(*factors: Iterable[Any], through: tuple[Any, ...]) -> list[Any]:
    """Parameters of a test: the product of factors. What is not on a line through one point of it is marked `soak`.

    So each run of the tests has every value of each factor, with those of `through` in the other factors.
    """
    cases = list(product(*factors))
    assert through in cases, f"{through} is no case"
    return thin(cases, [case for case in cases if sum(a != b for a, b in zip(case, through, strict=True)) <= 1])


def _soak(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.soak)
