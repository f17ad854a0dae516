"""A certificate as a table that a person can read."""

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from .kernel import Answer, Kernel

if TYPE_CHECKING:
    from .certificate import Certificate

Gains = tuple[float, ...] | dict[str, tuple[float, ...]]
Row = tuple[str, str, str]


def certificate_rows(c: "Certificate") -> list[Row]:
    """The certificate as rows of (property, verdict, reason)."""
    found = [
        ("consistent", _yes(c.consistent), c.reasons["consistent"]),
        ("zero-stable", _yes(c.zero_stable), c.reasons["zero_stable"]),
        ("order", "-" if c.order is None else str(c.order), c.reasons["order"]),
    ]
    if c.multistep is not None:
        rho, sigma = map(_polynomial, c.multistep)
        found.append(("multistep form", "", f"rho = {rho},  sigma = {sigma}"))
    found.append(("gains", *_gains(c.gains)))
    if c.binding == "operator":
        found.append(("  of T - identity", *_gains(gains_by_layer(c.gradients, -1))))
    found.append(("reversible", _yes(c.reversible), str(c.inverse)))
    first, last = c.memory
    grows = f"grows from {first} to {last} tensors with depth" if last > first else "the same at any depth"
    found.append(("memory", str(last), grows))
    conditions = c.universal[0].provided if c.universal else ()
    shared = [condition for condition in conditions if all(condition in s.provided for s in c.universal)]
    for statement in c.universal:
        own = replace(statement, provided=tuple(p for p in statement.provided if p not in shared))
        found.append(("universal", own.name, str(own).partition(": ")[2]))
    found += [("  provided", "", condition) for condition in shared]
    failures: dict[str, list[str]] = {}
    for statement in c.statements:
        if not statement.holds:
            failures.setdefault(str(statement).partition(": ")[2], []).append(statement.name)
    found += [("not universal", ", ".join(names), reason) for reason, names in failures.items()]
    found += [(f"at {name}", "", _brief(end)) for name, end in c.ends.items()]
    if c.rate is not None:
        found.append(("worst case", "", str(c.rate)))
    if not c.exact:
        found.append(("numbers", "", "coefficients that are not simple fractions were compared to 1e-9"))
    return found


def _brief(c: "Certificate") -> str:
    universal = ", ".join(s.name for s in c.universal) or "no"
    return (
        f"consistent {_yes(c.consistent)}, zero-stable {_yes(c.zero_stable)}, "
        f"reversible {_yes(c.reversible)}, universal {universal}"
    )


def gains_by_layer(kernel: Kernel, sign: int = 1) -> Gains:
    """The gains in order of the layers; by oracle where a step asks several answers."""
    if kernel.single:
        return tuple(sign * gain for gain in kernel.gains.values())
    found: dict[str, list[float]] = {}
    for answer, gain in kernel.gains.items():
        found.setdefault(_call(answer), []).append(sign * gain)
    return {name: tuple(gains) for name, gains in found.items()}


def _call(answer: Answer) -> str:
    return answer.oracle + (f" (call {answer.call + 1})" if answer.call else "")


def _gains(gains: Gains) -> tuple[str, str]:
    if isinstance(gains, dict):
        texts = [_gains(g) for g in gains.values()]
        verdicts = dict.fromkeys(v for v, _ in texts)
        return "; ".join(verdicts), "; ".join(f"{k}: {t}" for k, (_, t) in zip(gains, texts, strict=True))
    zeros = sum(abs(g) < 1e-12 for g in gains)
    verdict = "nonzero" if not zeros else f"{zeros} zero"
    shown = gains if len(gains) <= 8 else (*gains[:4], None, *gains[-3:])
    return verdict, ", ".join("..." if g is None else f"{g + 0.0:.3g}" for g in shown) + "  (first to last layer)"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _polynomial(coefficients: tuple[Fraction, ...]) -> str:
    text = ""
    degree = len(coefficients) - 1
    for i, c in enumerate(coefficients):
        if c == 0:
            continue
        power = {0: "", 1: "z"}.get(degree - i, f"z^{degree - i}")
        size = "" if abs(c) == 1 and power else (str(abs(c)) if abs(c).denominator < 1000 else f"{abs(float(c)):.4g}")
        sign = (" - " if text else "-") if c < 0 else (" + " if text else "")
        text += f"{sign}{size}{' ' if size and power else ''}{power}"
    return text or "0"
