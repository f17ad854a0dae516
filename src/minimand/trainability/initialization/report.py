"""The report of `initialize`: which parameters were set, by which rule, and which were left alone."""

from dataclasses import asdict, dataclass
from typing import Any

from ..._support.tables import table_text

# The most names of parameters that a line of the report lists.
_LISTED = 8


@dataclass(frozen=True)
class Setting:
    """A parameter that was set, and by which rule."""

    name: str
    rule: str
    fan_in: float | None
    fan_out: float | None
    gain: float | None
    std_before: float
    std_after: float

    @property
    def zero_bias(self) -> bool:
        """Whether the parameter is a bias of which there is nothing to tell but that it is 0."""
        return self.rule == "0" and "bias" in self.name


@dataclass(frozen=True)
class InitReport:
    """What `initialize` set, by which rule, and what it left alone and why."""

    model: str
    scheme: str
    settings: tuple[Setting, ...]
    left_alone: dict[str, str]
    """The reason why a parameter or a module was left as it was, by its name."""
    notes: tuple[str, ...]
    dry_run: bool = False
    references: tuple[str, ...] = ()
    """Keys into references.bib of the schemes that were used."""

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary of numbers, strings and lists, which JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        columns = ["parameter", "rule", "fan in", "fan out", "gain", "std before", "std after"]
        rows = [
            [s.name, s.rule, *map(_number, (s.fan_in, s.fan_out, s.gain, s.std_before, s.std_after))]
            for s in self.settings
            if not s.zero_bias
        ]
        title = f"{self.model}, {self.scheme}{', dry run: nothing changed' if self.dry_run else ''}"
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_alone.items():
            reasons.setdefault(why, []).append(name)
        notes = list(self.notes)
        zero_biases = [s.name for s in self.settings if s.zero_bias]
        if zero_biases:
            notes.append(f"set to 0: {_listed(zero_biases)}")
        notes += [f"left alone, {why}: {_listed(names)}" for why, names in reasons.items()]
        return table_text(columns, rows, title, "\n".join(notes), labels=2)


def _listed(names: list[str]) -> str:
    text = ", ".join(names[:_LISTED])
    return f"{text} and {len(names) - _LISTED} more" if len(names) > _LISTED else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
