"""Checks of the arguments of `fit`, before anything begins."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from .._support.errors import MinimandError, WrongTypeError
from ..recipes.recipe import Recipe


def check_arguments(model: Any, recipe: Any, loss: Any, callbacks: Any, checkpoint_every: Any, seed: Any) -> None:
    """Raise MinimandError for an argument that `fit` cannot use: names it, and what works."""
    if not isinstance(model, nn.Module):
        remedy = f"mm.create_model({model!r}, ...)" if isinstance(model, str) else "such as mm.create_model(...)"
        raise WrongTypeError(f"model is {_shown(model)}; expected a module, {remedy}.")
    if not any(p.requires_grad for p in model.parameters()):
        raise MinimandError(f"model {type(model).__name__} has no parameters to train; expected at least one.")
    if not isinstance(recipe, Recipe | None):
        raise WrongTypeError(f"recipe is {_shown(recipe)}; expected one such as mm.Recipe(epochs=10).")
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise WrongTypeError(
            f"loss is {_shown(loss)}; expected 'cross_entropy', 'mse' or a function of (outputs, targets)."
        )
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise WrongTypeError(f"callbacks is {_shown(callbacks)}; expected a list of functions of an event.")
    if not isinstance(checkpoint_every, int | float) or not checkpoint_every >= 0:
        raise MinimandError(f"checkpoint_every is {checkpoint_every!r}; expected seconds, 0 or more.")
    check_seed(seed)


def check_seed(seed: Any) -> None:
    """Raise MinimandError for a seed that not every random generator takes."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise MinimandError(f"seed is {seed!r}; expected an integer from 0 to 2^63 - 1.")


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float | type):
        return repr(value)
    return "a function" if callable(value) and hasattr(value, "__qualname__") else type(value).__name__
