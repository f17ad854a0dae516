"""The lines of a certificate on universality."""

from collections.abc import Sequence
from dataclasses import replace

from .statement import Statement

Row = tuple[str, str, str]
"""A property, its verdict and the reason."""


def universality_rows(statements: Sequence[Statement]) -> list[Row]:
    """The statements that hold, the conditions that they share, and those that fail, grouped by reason."""
    universal = [statement for statement in statements if statement.holds]
    conditions = universal[0].provided if len(universal) > 1 else ()
    shared = [condition for condition in conditions if all(condition in s.provided for s in universal)]
    rows: list[Row] = []
    for statement in universal:
        shortened = replace(statement, provided=tuple(p for p in statement.provided if p not in shared))
        rows.append((shortened.verdict, shortened.name, shortened.reason))
    rows += [("  provided", "", condition) for condition in shared]
    failures: dict[tuple[str, str], list[str]] = {}
    for statement in statements:
        if not statement.holds:
            failures.setdefault((statement.verdict, statement.reason), []).append(statement.name)
    return rows + [(verdict, ", ".join(names), reason) for (verdict, reason), names in failures.items()]


def universality_in_brief(statements: Sequence[Statement]) -> str:
    """The names of the statements that hold, or the verdict where none does."""
    names = [statement.name for statement in statements if statement.holds]
    if names:
        return f"universal {', '.join(names)}"
    return "not universal" if any(statement.obstructed for statement in statements) else "not covered"
