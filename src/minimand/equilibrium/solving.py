"""The loop of every solve: residuals by sample, the best iterate of each, and rows that leave when they are done."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from .._support.errors import WrongTypeError
from .packing import Packing
from .solution import Solution
from .solver import Iteration, Solver, Step

RUN_OFF = 1e6
"""The growth of a residual at which a sample is given up."""


class Equations:
    """The equations z = f(z) of a batch, of which samples may leave; a call takes and gives rows of a matrix."""

    leaving: ClassVar[float] = 1 / 8
    """The share of a batch that is done before its rows leave: going on with the others has a cost too."""

    @property
    def may_leave(self) -> bool:
        """Whether samples may leave; not where every call sees all of them."""
        return False

    def __call__(self, rows: Tensor) -> Tensor:
        """The answer f(z) to the states of all samples that are left, (n, D)."""
        raise WrongTypeError(f"{type(self).__name__} has no method __call__(self, rows).")

    def keep(self, rows: Tensor) -> None:
        """Leave all samples out but some, given by their indices among those left."""
        raise WrongTypeError(f"{type(self).__name__} has no method keep(self, rows).")


class _OfFunction(Equations):
    """The equations of a function of a state, which sees all samples at every call."""

    def __init__(self, function: Callable[[Any], Any], packing: Packing) -> None:
        self.function, self.packing = function, packing

    def __call__(self, rows: Tensor) -> Tensor:
        return self.packing.pack(self.function(self.packing.unpack(rows)))


def solve(function: Callable[[Any], Any], start: Any, solver: Solver, dtype: torch.dtype | None = None) -> Solution:
    """Solve z = function(z) for each sample, in a function that sees the whole batch at each call.

    Args:
        function: from a state to one of the same shapes, without a gradient.
        start: a tensor (N, ...) of N samples, or a tuple of them.
        solver: how, as `as_solver` gives it.
        dtype: what the function computes in; by default the state's.
    """
    packing = Packing(start)
    return run(_OfFunction(function, packing), start, packing, solver, solver.tolerance_in(dtype or packing.coarsest))


@torch.no_grad()
def run(
    f: Equations, start: Any, packing: Packing, solver: Solver, tolerance: float, at_point: bool = False
) -> Solution:
    """Solve equations from a state; with `at_point` the values are the best iterates z themselves, not f(z)."""
    first = packing.pack(start)
    records = _SampleRecords(first, at_point)
    iteration = solver.begin(first)
    for count in range(1, solver.max_steps + 1):
        records.note(iteration.advance(f), count, tolerance)
        if records.open == 0:
            break
        if f.may_leave and 1 - records.open / len(records.rows) >= f.leaving:
            records.leave(f, iteration)
    return records.solution(packing, tolerance)


class _SampleRecords:
    """What is known of each sample, those that left included; `rows` are the numbers of those still in the batch."""

    def __init__(self, first: Tensor, at_point: bool) -> None:
        count, device = len(first), first.device
        self.at_point = at_point
        self.rows = torch.arange(count, device=device)
        self.open = count
        self.is_open = torch.ones(count, dtype=torch.bool, device=device)
        self.best_norm = first.new_full((count,), math.inf)
        self.first_norm = self.best_norm
        self.residual = self.best_norm.clone()
        self.best: Tensor = first
        self.steps, self.best_step = (torch.zeros(count, dtype=torch.long, device=device) for _ in range(2))
        self.ran_off = torch.zeros_like(self.is_open)
        self.done: dict[str, Tensor] = {}

    def note(self, step: Step, count: int, tolerance: float) -> None:
        """Write down a step of the rows that are in the batch."""
        norm = torch.linalg.vector_norm(step.residual, dim=1)
        size = torch.linalg.vector_norm(step.answer, dim=1)
        if count == 1:
            self.first_norm = norm
        better = (norm < self.best_norm) & self.is_open
        value = step.point if self.at_point else step.answer
        if bool(better.all()):
            self.best, self.best_norm = value, norm
            self.residual = norm / size.clamp_min(torch.finfo(norm.dtype).tiny)
        elif bool(better.any()):
            self.best = torch.where(better.unsqueeze(1), value, self.best)
            self.best_norm = torch.where(better, norm, self.best_norm)
            self.residual = torch.where(better, norm / size.clamp_min(torch.finfo(norm.dtype).tiny), self.residual)
        self.best_step = torch.where(better, count, self.best_step)
        self.steps = torch.where(self.is_open, count, self.steps)
        ran_off = self.is_open & ~(norm <= RUN_OFF * self.first_norm)
        self.ran_off |= ran_off
        self.is_open = self.is_open & ~ran_off & ~(self.residual <= tolerance)
        self.open = int(self.is_open.sum())

    def leave(self, f: Equations, iteration: Iteration) -> None:
        """Let the rows that are done leave the batch."""
        self._write(~self.is_open)
        rows = self.is_open.nonzero().squeeze(1)
        for name in (*_BY_ROW, "rows", "is_open", "best_norm", "first_norm"):
            setattr(self, name, getattr(self, name)[rows])
        f.keep(rows)
        iteration.keep(rows)

    def solution(self, packing: Packing, tolerance: float) -> Solution:
        if self.done:
            self._write(torch.ones_like(self.is_open))
        values = self.done or {name: getattr(self, name) for name in _BY_ROW}
        converged = values["residual"] <= tolerance
        nowhere = (values["best_step"] == 1) & (values["steps"] > 1) & ~converged
        return Solution(
            packing.unpack(values["best"]),
            values["steps"],
            values["residual"],
            converged,
            (values["ran_off"] | nowhere) & ~converged,
        )

    def _write(self, chosen: Tensor) -> None:
        """Write what is known of some of the rows to where it stays."""
        places = self.rows[chosen]
        for name in _BY_ROW:
            values = cast(Tensor, getattr(self, name))
            if name not in self.done:
                # The first rows leave while all are still here, so this has room for every row.
                self.done[name] = values.clone()
            self.done[name][places] = values[chosen]


_BY_ROW = ("best", "steps", "best_step", "residual", "ran_off")
