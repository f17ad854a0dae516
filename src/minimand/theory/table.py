"""The rows of a certificate: facts about a network as text that a person can read."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from .kernel import Answer, Kernel
from .scalars import sum_text
from .universality.statement import Statement

Gains = tuple[float, ...] | dict[str, tuple[float, ...]]
"""Gains by layer, or by oracle and layer."""

Row = tuple[str, str, str]
"""A property, its verdict and the reason."""


def universality_rows(statements: Sequence[Statement]) -> list[Row]:
    """The statements that hold, the conditions that they share, and those that fail, grouped by reason."""
    universal = [statement for statement in statements if statement.holds]
    conditions = universal[0].provided if universal else ()
    shared = [condition for condition in conditions if all(condition in s.provided for s in universal)]
    rows: list[Row] = []
    for statement in universal:
        shortened = replace(statement, provided=tuple(p for p in statement.provided if p not in shared))
        rows.append(("universal", shortened.name, str(shortened).partition(": ")[2]))
    rows += [("  provided", "", condition) for condition in shared]
    failures: dict[str, list[str]] = {}
    for statement in statements:
        if not statement.holds:
            failures.setdefault(str(statement).partition(": ")[2], []).append(statement.name)
    return rows + [("not universal", ", ".join(names), reason) for reason, names in failures.items()]


def gains_by_layer(kernel: Kernel, sign: int = 1) -> Gains:
    """The gains of a kernel in the order of its layers; by oracle where a step asks several answers."""
    if kernel.single:
        return tuple(sign * gain for gain in kernel.gains.values())
    by_call: dict[str, list[float]] = {}
    for answer, gain in kernel.gains.items():
        by_call.setdefault(_call(answer), []).append(sign * gain)
    return {name: tuple(gains) for name, gains in by_call.items()}


def _call(answer: Answer) -> str:
    return answer.oracle + (f" (call {answer.call + 1})" if answer.call else "")


def gains_text(gains: Gains) -> tuple[str, str]:
    """A verdict on gains, such as nonzero, and their values: the first and the last ones where they are many."""
    if isinstance(gains, dict):
        texts = [gains_text(g) for g in gains.values()]
        verdicts = dict.fromkeys(v for v, _ in texts)
        return "; ".join(verdicts), "; ".join(f"{k}: {t}" for k, (_, t) in zip(gains, texts, strict=True))
    zeros = sum(abs(g) < 1e-12 for g in gains)
    verdict = "nonzero" if not zeros else f"{zeros} zero"
    shown = gains if len(gains) <= 8 else (*gains[:4], None, *gains[-3:])
    return verdict, ", ".join("..." if g is None else f"{g + 0.0:.3g}" for g in shown) + "  (first to last layer)"


def yes(value: bool) -> str:
    """A truth value as yes or no."""
    return "yes" if value else "no"


def polynomial_text(coefficients: tuple[Fraction, ...]) -> str:
    """A polynomial in z, of coefficients from the highest power down."""
    powers = ["", "z", *(f"z^{degree}" for degree in range(2, len(coefficients)))]
    terms = zip(coefficients, reversed(powers[: len(coefficients)]), strict=True)
    return sum_text([(c, power) for c, power in terms if c]) or "0"
