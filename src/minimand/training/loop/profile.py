"""The profile of a training: where its time went."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..._support.clock import Clock
from ..._support.tables import table_html, table_text

PARTS = ("data", "augmentation", "forward", "backward", "optimizer", "hooks", "evaluation", "checkpoint", "other")
"""The parts of a training in the order of the table; `_support.clock` counts them where they happen."""


@dataclass(frozen=True)
class Profile:
    """Where the time of a training went, from `mm.fit(..., profile=True)`: the seconds of each part, all it took."""

    seconds: Mapping[str, float]
    """Seconds by part; together all that passed from the first step to the last, without the report."""
    steps: int
    """The number of steps that were made, without those before a checkpoint that the training went on from."""
    note: str = ""
    """What the method does that is not split, as a sentence; empty where all is."""

    @property
    def total(self) -> float:
        """The seconds of all parts together."""
        return sum(self.seconds.values())

    def columns(self) -> list[str]:
        """The column heads of the table."""
        return ["time", "seconds", "share", "ms a step"]

    def rows(self) -> list[list[str]]:
        """A row for each part, and one for all of them."""
        parts = {part: self.seconds.get(part, 0.0) for part in PARTS} | {"all": self.total}
        return [
            [part, f"{s:.3f}", f"{100 * s / max(self.total, 1e-9):.1f} %", f"{1e3 * s / max(self.steps, 1):.2f}"]
            for part, s in parts.items()
        ]

    def __str__(self) -> str:
        return table_text(self.columns(), self.rows(), note=self.note)

    def _repr_html_(self) -> str:
        return table_html(self.columns(), self.rows(), note=self.note)


def clock_of(device: torch.device) -> Clock:
    """A clock for what runs on a device, which it waits for at every change of parts."""
    return Clock(lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else Clock()
