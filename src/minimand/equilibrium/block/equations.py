"""The equations z = block(z, x) of a batch, of whose samples some may leave."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import uncompiled
from ...algorithms import leaves, rebuild
from ..packing import Packing
from ..solution import Solution
from ..solving import Equations
from .held import Held


class BlockEquations(Equations):
    """The equations z = block(z, *inputs, **shared), where each sample has its row of every input."""

    def __init__(
        self, block: nn.Module, packing: Packing, inputs: Sequence[Any], shared: Mapping[str, Any], device: torch.device
    ) -> None:
        self.block, self.packing, self.shared = block, packing, dict(shared)
        self.all_inputs = self.inputs = tuple(inputs)
        self.held = Held(block, device)
        self.samples_apart = True
        """Whether the answer for a sample does not depend on the others."""
        self.calls = 0
        self.note_gradient: Callable[[Solution], object] = lambda solution: None
        """What is told the solution of a gradient's linear equation, in the backward pass."""

    @property
    def may_leave(self) -> bool:
        """Whether rows may leave: not where samples meet, masks are drawn for them all, or each size is compiled."""
        return self.samples_apart and not self.held.is_random and uncompiled(self.block) is self.block

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the block computes in."""
        return self.held.autocast_dtype or self.packing.coarsest

    @property
    def name(self) -> str:
        """The name of the block in errors."""
        return f"the block ({type(uncompiled(self.block)).__name__})"

    def __call__(self, rows: Tensor) -> Tensor:
        return self.packing.pack(self.ask(self.packing.unpack(rows), self.inputs))

    def ask(self, state: Any, inputs: Sequence[Any] | None = None) -> Any:
        """The block's answer to a state of all samples, or of those whose inputs are given."""
        self.calls += 1
        with self.held():
            answer = self.block(state, *(self.all_inputs if inputs is None else inputs), **self.shared)
        self.packing.check(answer, len(leaves(state)[0]), self.name)
        return answer

    def update_statistics(self, state: Any) -> None:
        """Move the running statistics of the block's normalizations as by one batch, at the solution."""
        self.held.update_statistics(lambda: self.block(state, *self.all_inputs, **self.shared))

    def keep(self, rows: Tensor) -> None:
        self.inputs = tuple(rows_of(value, rows) for value in self.inputs)

    @torch.no_grad()
    def check_that_it_is_a_function(self, start: Any) -> None:
        """Ask the block twice, and of the last sample alone, to know whether solving it makes sense.

        Raises:
            MinimandError: two calls with the same state of torch's generators differ.
        """
        state = self._first_answer(start)
        once, twice = (self.packing.pack(self.ask(state)) for _ in range(2))
        if _differ(once, twice):
            raise MinimandError(
                f"{self.name} gave two answers to one state with torch's generators at one place: it draws random "
                "numbers elsewhere, as from numpy or random, or changes with every call, so that no state solves "
                "z = block(z, x). Draw them with torch, or before the equilibrium and pass them as an input."
            )
        count = len(once)
        if count > 1 and uncompiled(self.block) is self.block:
            last = torch.tensor([count - 1], device=once.device)
            alone = self.packing.pack(self.ask(rows_of(state, last), rows_of(self.all_inputs, last)))
            self.samples_apart = not _differ(alone, once[-1:])

    def _first_answer(self, start: Any) -> Any:
        """The block's answer to a first state, which may have been guessed."""
        try:
            return self.ask(start)
        except (MinimandError, torch.OutOfMemoryError):
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            shapes = [", ".join(str(tuple(x.shape)) for x in leaves(part)) for part in (start, self.all_inputs)]
            raise MinimandError(
                f"{self.name} cannot be called with a state of {shapes[0]}, {self.packing.coarsest} and inputs of "
                f"{shapes[1] or 'none'}: {error}. Expected the shape that the block returns; pass it as start=, a "
                "tensor or a tuple of them, where it is not that of the first input."
            ) from error


def check_inputs(inputs: Sequence[Any], samples: int) -> None:
    """Raise MinimandError unless every input has a row for each sample."""
    for i, value in enumerate(inputs):
        for leaf in leaves(value):
            if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != samples:
                what = f"a tensor of shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else f"{leaf!r}"
                raise MinimandError(
                    f"input {i} of the equilibrium is {what}, but the state has {samples} samples; expected tensors "
                    "with a row for each. Pass what all samples share by its name: eq(x, mask=mask)."
                )


def rows_of(value: Any, rows: Tensor) -> Any:
    """A tensor or a tuple of tensors (N, ...) for some of the samples only, given by their indices."""
    return rebuild(value, [leaf[rows] for leaf in leaves(value)])


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether two answers differ by more than rounding; some that are not finite say nothing."""
    difference = (a - b).norm()
    return bool(difference > 1e-3 * a.norm() + torch.finfo(a.dtype).tiny) if bool(difference.isfinite()) else False
