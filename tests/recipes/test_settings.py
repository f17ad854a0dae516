"""Every setting of a recipe, given what it cannot be, is named by one error."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.recipes.optimizers import OPTIMIZERS
from minimand.recipes.schedules import SCHEDULES

SETTINGS = [
    (kind, field.name)
    for kind in (*OPTIMIZERS.values(), *SCHEDULES.values(), mm.Recipe, mm.Augmentation)
    for field in fields(kind)
]
JUNK = ["junk", -1, math.nan, ("a", "b"), {"a": 1}, object()]


@pytest.mark.parametrize(("kind", "name"), SETTINGS, ids=[f"{kind.__name__}.{name}" for kind, name in SETTINGS])
def test_a_setting_that_cannot_be_is_named(kind: Callable[..., Any], name: str) -> None:
    for value in JUNK:
        with pytest.raises(MinimandError, match=name):
            kind(**{name: value})
