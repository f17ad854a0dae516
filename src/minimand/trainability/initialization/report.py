"""What `initialize` did."""

from dataclasses import asdict, dataclass
from typing import Any

from ..._support.tables import table_text

# How many names a line lists.
_LISTED = 8


@dataclass(frozen=True)
class Setting:
    """One parameter that was set."""

    name: str
    rule: str
    fan_in: float | None
    fan_out: float | None
    gain: float | None
    std_before: float
    std_after: float

    @property
    def zero_bias(self) -> bool:
        """Whether there is nothing to tell of it but that it is 0."""
        return self.rule == "0" and "bias" in self.name


@dataclass(frozen=True)
class InitReport:
    """What `initialize` set, by which rule, and what it left alone and why."""

    model: str
    scheme: str
    settings: tuple[Setting, ...]
    left_alone: dict[str, str]
    """The reason, by the name of a parameter or a module."""
    notes: tuple[str, ...]
    dry_run: bool = False
    references: tuple[str, ...] = ()
    """Keys into references.bib."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        columns = ["parameter", "rule", "fan in", "fan out", "gain", "std before", "std after"]
        rows = [
            [s.name, s.rule, *map(_number, (s.fan_in, s.fan_out, s.gain, s.std_before, s.std_after))]
            for s in self.settings
            if not s.zero_bias
        ]
        title = f"{self.model}, {self.scheme}" + ", dry run: nothing changed" * self.dry_run
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_alone.items():
            reasons.setdefault(why, []).append(name)
        left = [f"left alone, {why}: {_listed(names)}" for why, names in reasons.items()]
        zero = [s.name for s in self.settings if s.zero_bias]
        notes = [*self.notes, *[f"set to 0: {_listed(zero)}"] * bool(zero), *left]
        return table_text(columns, rows, title, "\n".join(notes), labels=2)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + f" and {len(names) - _LISTED} more" * (len(names) > _LISTED)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
