"""What `initialize` did."""

from dataclasses import asdict, dataclass
from typing import Any

from ..tables import table_text


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        columns = ["parameter", "rule", "fan in", "fan out", "gain", "std before", "std after"]
        rows = [
            [s.name, s.rule, *map(_number, (s.fan_in, s.fan_out, s.gain, s.std_before, s.std_after))]
            for s in self.settings
        ]
        title = f"{self.model}, {self.scheme}" + ", dry run: nothing changed" * self.dry_run
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_alone.items():
            reasons.setdefault(why, []).append(name)
        left = [f"left alone, {why}: {', '.join(names)}" for why, names in reasons.items()]
        return table_text(columns, rows, title, "\n".join([*self.notes, *left]), labels=2)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
