"""Gains as certificates state them: how strongly the block of each layer reaches the output."""

from ..kernel import Kernel

Gains = tuple[float, ...] | dict[str, tuple[float, ...]]
"""Gains by layer, or by oracle and layer."""


def gains_by_layer(kernel: Kernel, sign: int = 1) -> Gains:
    """The gains of a kernel in the order of its layers; by oracle where a step asks several answers."""
    if kernel.single:
        return tuple(sign * gain for gain in kernel.gains.values())
    by_call: dict[str, list[float]] = {}
    for answer, gain in kernel.gains.items():
        call = answer.oracle + (f" (call {answer.call + 1})" if answer.call else "")
        by_call.setdefault(call, []).append(sign * gain)
    return {name: tuple(gains) for name, gains in by_call.items()}


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
