"""What a solver is: settings, and an iteration that it begins at a point."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .._support.checks import check_number
from .._support.errors import MinimandError, WrongTypeError
from .._support.names.registry import Registry, subclass_of

USUAL_TOLERANCE = 1e-4
REACH = 4
"""The least tolerance, in units of the precision: rounding alone leaves residuals of about one of them."""


# What else a person may do, by whether the block computes in double and in single precision.
_FINER = {
    (True, False): "",
    (False, True): ", or model.double() and inputs in float64",
    (False, False): ", or float32: model.float(), without torch.autocast (precision='fp32' in a recipe)",
}


class Step(NamedTuple):
    """A step of an iteration: the point z (n, D) where f was asked, its answer f(z), and f(z) - z."""

    point: Tensor
    answer: Tensor
    residual: Tensor


class Iteration(Protocol):
    """A solver at work on the rows of a matrix, each of them an equation of its own."""

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        """Make a step: ask f of a point, which is not written into after that."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows only, given by their indices."""
        ...


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A way to solve z = f(z): a subclass has settings, and begins an `Iteration`."""

    tolerance: float | None = None
    """The relative residual |f(z) - z| / |f(z)| at which a sample is done; None is 1e-4, or in half precisions four
    times what they tell apart."""
    max_steps: int = 50
    """The steps after which a sample that is not done stops, with its best iterate."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.tolerance is not None:
            check_number(f"{name}.tolerance", self.tolerance, 0, 1, below=True)
        check_number(f"{name}.max_steps", self.max_steps, 1, math.inf, whole=True)

    @property
    def title(self) -> str:
        """The name of the solver in warnings, errors and tables."""
        return type(self).__name__

    def begin(self, start: Tensor) -> Iteration:
        """An iteration from the rows of a matrix (n, D)."""
        raise WrongTypeError(f"{type(self).__name__} has no method begin(self, start).")

    def tolerance_in(self, dtype: torch.dtype) -> float:
        """The tolerance for a block that computes in a dtype.

        Raises:
            MinimandError: a tolerance that rounding in that dtype would never let a residual reach.
        """
        reach = REACH * torch.finfo(dtype).eps
        if self.tolerance is None:
            return max(USUAL_TOLERANCE, reach)
        if self.tolerance < reach:
            precision = str(dtype).removeprefix("torch.")
            finer = _FINER[dtype == torch.float64, dtype == torch.float32]
            raise MinimandError(
                f"{type(self).__name__}.tolerance is {self.tolerance:g}, but the block computes in {precision}, whose "
                f"rounding leaves residuals near {torch.finfo(dtype).eps:.1g}; expected at least {reach:.1g}, or None, "
                f"which goes by the precision{finer}."
            )
        return self.tolerance


SOLVERS: Registry[type[Solver]] = Registry("solver", "solvers", f"{__package__}.solvers", subclass_of(Solver))
"""The solvers by name; a file in the folder `solvers` registers its own."""
