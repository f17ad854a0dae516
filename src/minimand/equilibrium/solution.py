"""What a solve gave: the values, and for each sample how long it took and how well the equation holds."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Result = Literal["converged", "stopped", "diverged"]
"""How a solve ended, as its worst sample did."""


@dataclass(frozen=True)
class Solution:
    """The solution of z = f(z) for each sample of a batch of N.

    A sample is converged where its residual fell to the tolerance, diverged where no step came nearer than the start or
    the states ran off, and otherwise stopped at the most steps; its value is then that of the least residual.
    """

    value: Any
    """The state: f at the best iterate of each sample, a tensor or a tuple of tensors."""
    steps: Tensor
    """The steps that each sample took, (N,) integers."""
    residual: Tensor
    """The relative residual |f(z) - z| / |f(z)| at the best iterate z of each sample, (N,)."""
    converged: Tensor
    """Whether each sample's residual is at most the tolerance, (N,) of bool."""
    diverged: Tensor
    """Whether each sample ran off, or never came nearer than its start, (N,) of bool."""

    @property
    def result(self) -> Result:
        """How the worst sample ended: converged, stopped or diverged."""
        if bool(self.diverged.any()):
            return "diverged"
        return "converged" if bool(self.converged.all()) else "stopped"

    @property
    def counts(self) -> dict[str, int]:
        """The samples that converged, stopped and diverged."""
        converged, diverged = int(self.converged.sum()), int(self.diverged.sum())
        return {"converged": converged, "stopped": len(self.steps) - converged - diverged, "diverged": diverged}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        return f"{counts}; at most {int(self.steps.max())} steps; residual at most {float(self.residual.max()):.2g}"
