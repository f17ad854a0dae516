"""A stage with memory='reversible': in which arithmetic it runs, and what it says where rounding is too much for it."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._support.errors import MinimandError, MisuseError
from ..._support.torch.internals import is_transformed
from ...theory.dynamics.recurrence import Recurrence
from .first_call import check_blocks, roundoff
from .reversible import Ask, Module, Reversible, Values

# Gradients are off by up to about ten times as much as the first state: a ViT whose state was off by 5.4e-4 had
# gradients off by 5.5e-3. They are promised to 1e-3.
ALLOWED = 1e-4
"""The relative error of the first state, run back, beyond which states are kept to the last bit."""


class Backwards:
    """Chooses between floating point and integers for a stage, by the round-off that its blocks have as they are."""

    def __init__(self, run: Recurrence, exact: bool | None) -> None:
        self.reversible, self.exact = Reversible(run), exact
        self.roundoff: float | None = None
        """The relative error of the first state when the stage was run back, as measured at the first call."""
        self.is_exact = bool(exact)
        self._tried: set[Any] = set()
        self._remainder: Tensor | None = None

    def __call__(self, ask: Ask, module: Module, inputs: Sequence[Tensor], values: Values) -> Tensor:
        """The output of the stage for its inputs, in the arithmetic that is chosen for it."""
        x = inputs[0]
        if is_transformed():
            raise MisuseError(
                "memory='reversible' does not run within transforms of torch.func (grad, vmap, jvp ...); expected "
                "torch.autograd.grad, which takes several directions with is_grads_batched=True, or memory='store'."
            )
        # Checked at each call, as blocks may be sharded after the first one.
        calls = self.reversible.recurrence.calls
        check_blocks([module(block.layer, block.oracle) for call in calls for block in call.blocks])
        kind = (x.dtype, x.device.type, torch.is_autocast_enabled(x.device.type))
        if not x.numel():  # there is nothing to be measured, nor to be rounded
            return self.reversible(ask, module, inputs, values, False, lambda _: None)
        if kind not in self._tried:
            self._try(ask, module, inputs, values)
            self._tried.add(kind)
        self._look()
        return self.reversible(ask, module, inputs, values, self.is_exact, self._note)

    def _try(self, ask: Ask, module: Module, inputs: Sequence[Tensor], values: Values) -> None:
        runs = self.reversible
        with torch.no_grad():
            run = runs.begin(ask, module, inputs, values, self.is_exact)
        error = roundoff(run)
        if self.is_exact:
            return
        self.roundoff = error
        if not error <= ALLOWED:  # NaN too
            self._too_much(error, "at the first call")
            with torch.no_grad():
                roundoff(runs.begin(ask, module, inputs, values, True))

    def _too_much(self, error: float, when: str) -> None:
        if self.exact is False:
            raise MinimandError(
                f"run backwards, the first state is off by {error:.2g} of its size {when}, and gradients by up to "
                f"about ten times as much; exact=False allows {ALLOWED:g}. Expected exact=None or True, "
                "memory='checkpoint', fewer layers, or a momentum nearer to 1."
            )
        self.is_exact = True

    def _note(self, remainder: Tensor) -> None:
        self._remainder = remainder

    def _look(self) -> None:
        """Look at what the last backward pass left of the first step, which tells how far it was off."""
        if self._remainder is None or self.is_exact:
            return
        error, self._remainder = float(self._remainder), None
        if error > ALLOWED:  # NaN is passed over, as the loss was NaN too
            self._too_much(error, "after the last step")
            warnings.warn(
                f"run backwards, a stage was off by {error:.2g} of its size; from now on its states are kept exactly "
                "(exact=True).",
                stacklevel=2,
            )
