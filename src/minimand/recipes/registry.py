"""Recipes by name: those in the folder `named`, and those of other packages."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from .._support.errors import WrongTypeError, unknown_name
from .._support.names.calls import call_with, parse_call
from .._support.names.registry import Registry
from .recipe import Recipe

RecipeMaker = Callable[..., Recipe]
"""A function that makes a recipe; its arguments have defaults."""


def _check_maker(thing: Any) -> None:
    if not callable(thing):
        raise WrongTypeError(f"{thing!r} is no recipe; expected a function that returns an mm.Recipe.")


RECIPES: Registry[RecipeMaker] = Registry("recipe", "recipes", "minimand.recipes.named", _check_maker)
"""The functions that make recipes by name; a file of the folder `named` registers its own."""


def list_recipes() -> dict[str, str]:
    """A line about each named recipe."""
    return RECIPES.lines()


def recipe(name: str, **changes: Any) -> Recipe:
    """A recipe by name, such as "airbench" or "airbench(epochs=5)", with changes: its options, or fields of a `Recipe`.

    An option decides other fields too, as a batch size decides a learning rate; a field changes by itself.

    Raises:
        MinimandError: a name or a change that is not known, which names the nearest, or a value that cannot be.

    Example: `mm.recipe("airbench", epochs=5, precision="fp32")`.
    """
    name, options = parse_call(name, "recipe")
    options |= changes
    maker = RECIPES.named(name)
    own = inspect.signature(maker).parameters
    names_of_fields = [entry.name for entry in fields(Recipe)]
    for option in options:
        if option not in own and option not in names_of_fields:
            raise unknown_name(f"setting of the recipe {name}", option, {*own, *names_of_fields})
    # Fields that decide others, as a batch size decides a rate, are checked before.
    is_new = {option: option in own and value is not own[option].default for option, value in options.items()}
    Recipe(**{option: options[option] for option in names_of_fields if is_new.get(option)})
    recipe = call_with(maker, {option: value for option, value in options.items() if option in own}, name)
    return replace(recipe, **{option: value for option, value in options.items() if option not in own})


def as_recipe(value: Recipe | str | None) -> Recipe | None:
    """The recipe that an object or a name with changes stands for; None for None.

    Raises:
        MinimandError: an unknown name. WrongTypeError: something else.
    """
    if isinstance(value, str):
        return recipe(value)
    if isinstance(value, Recipe | None):
        return value
    shown = repr(value) if isinstance(value, int | float | type) else type(value).__name__
    raise WrongTypeError(f"recipe is {shown}; expected one such as mm.Recipe(epochs=10), or a name such as 'modern'.")
