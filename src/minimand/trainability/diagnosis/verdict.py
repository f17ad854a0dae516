"""Verdicts: why a network would not train, as a code, the layer, the evidence, and what repairs it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..measure.layer_stat import LIMIT, Growth, LayerStat, faded, growths, times
from .remedy import INPUT, Remedy, Structure

VerdictCode = Literal[
    "ok", "vanishing", "exploding", "collapsed", "saturated", "dead", "nonfinite", "structural_zero", "fluctuation"
]
Severity = Literal["none", "note", "warning", "fatal"]

_SEVERITY: dict[VerdictCode, Severity] = {
    **dict.fromkeys(("fluctuation", "saturated", "collapsed"), "warning"),
    **dict.fromkeys(("vanishing", "exploding", "dead", "nonfinite"), "fatal"),
    "ok": "none",
    "structural_zero": "note",
}

# Of what tells samples apart, 1 - cosine, this fraction has to be left after `_DEPTH` layers, and of fewer layers as
# much less: those near the input still tell samples apart, and are a larger part of a short network. Inputs as alike
# as `_ALIKE` never had it.
_APART, _DEPTH, _ALIKE = 1 / 15, 30, 0.02
_SATURATED, _DEAD = 0.5, 0.95


@dataclass(frozen=True)
class Verdict:
    """The verdict on a network, or on one of its layers: what is wrong and what repairs it."""

    code: VerdictCode
    layer: str | None = None
    """The layer where the fault shows; None for the whole network."""
    evidence: float = math.nan
    """The number that decided; `reason` says which it is."""
    reason: str = ""
    remedy: Remedy | None = None

    @property
    def severity(self) -> Severity:
        """The severity. note: as it is meant to be. warning: trains badly. fatal: does not train."""
        return _SEVERITY[self.code]

    @property
    def action(self) -> str | None:
        """The calls that repair the network, or the advice, as text."""
        return None if self.remedy is None else str(self.remedy)

    def __str__(self) -> str:
        where = f" at {self.layer}" if self.layer else ""
        reason = f": {self.reason}." if self.reason else ""
        repair = f" Repair: {self.remedy}" if self.remedy else ""
        return f"{self.code}{where}{reason}{repair}"


def judge(stats: Sequence[LayerStat], structure: Structure, freed: frozenset[int], broken: str | None) -> Verdict:
    """The verdict on a network, without remedy; `freed` layers wait for zeros to move, `broken` is not finite."""
    signal, gradient = growths(stats, structure.plain)
    return (
        _nonfinite(stats, broken)
        or _blocked(stats, freed)
        or _grown("exploding", stats, max(signal, gradient, key=lambda growth: growth.total), structure.limit)
        or _saturated(stats, structure)
        or _grown("vanishing", stats, min(signal, gradient, key=lambda growth: growth.total), structure.limit)
        or _collapsed(stats)
        or _dead_units(stats)
        or _fluctuates(structure)
        or _structural(stats, freed)
        or Verdict("ok", None, max(signal.total, gradient.total, key=abs), f"{signal}, {gradient}; samples stay apart")
    )


def judge_layer(i: int, stats: Sequence[LayerStat], structure: Structure, freed: frozenset[int]) -> Verdict:
    """The verdict on the layer that ran as number i; its growth is counted from the last hidden layer."""
    stat, reference = stats[i], stats[max(len(stats) - 2, 0)]
    name = label(stat)
    if stat.nonfinite > 0:
        return Verdict("nonfinite", name, stat.nonfinite, f"{100 * stat.nonfinite:.3g} % of its output is not finite")
    if i in freed:
        return Verdict("structural_zero", name, 0.0, "it has no gradient until a tensor that starts at 0 moves")
    if stat.blocked and i < len(stats) - 1 and faded(stats, i) > -LIMIT:
        return Verdict("dead", name, 0.0, "its gradient is exactly 0")
    if stat.dead > _DEAD:
        return _dead_units([stat, stat]) or Verdict("ok", name)
    if 0 < i < len(stats) - 1 and stat.read_gradient >= 0 and reference.read_gradient > 0:
        growth = math.log(stat.read_gradient / reference.read_gradient) if stat.read_gradient else -math.inf
        if abs(growth) > structure.limit:
            reason = f"the squared gradient that passes it is {times(growth)} that of {label(reference)}"
            return Verdict("exploding" if growth > 0 else "vanishing", name, growth, reason)
    if stat.saturated > _SATURATED:
        return Verdict("saturated", name, stat.saturated, f"{100 * stat.saturated:.3g} % of its units are saturated")
    if 1 - stat.cosine < _apart(stats):
        return Verdict("collapsed", name, stat.cosine, f"the mean cosine between samples is {stat.cosine:.5f}")
    return Verdict("ok", name)


def label(stat: LayerStat) -> str:
    """The layer's name, with the number of its run where it is not the first."""
    name = stat.name or stat.kind
    return f"{name} (run {stat.call_index + 1})" if stat.call_index else name


def _nonfinite(stats: Sequence[LayerStat], broken: str | None) -> Verdict | None:
    if broken is not None:
        name = broken.rpartition(".")[0] or broken
        return Verdict("nonfinite", name, math.nan, f"the parameter {broken} has entries that are NaN or infinite")
    i = next((i for i, s in enumerate(stats) if s.nonfinite > 0), None)
    if i is None:
        return None
    grown = math.log(stats[i - 1].second_moment / stats[0].second_moment) if i > 1 else 0.0
    if grown > LIMIT:
        return Verdict("exploding", label(stats[i]), grown, f"the squared signal grows {times(grown)}, then overflows")
    return Verdict("nonfinite", label(stats[i]), stats[i].nonfinite, "its output is not finite, though its weights are")


def _blocked(stats: Sequence[LayerStat], freed: frozenset[int]) -> Verdict | None:
    """The verdict on a gradient that is exactly 0: cut off, or faded below the smallest number."""
    blocked = [i for i in range(len(stats) - 1) if stats[i].blocked and i not in freed]
    if not blocked:
        return None
    last, fading = stats[blocked[-1]], faded(stats, blocked[-1])
    if fading < -LIMIT:
        reason = f"the squared gradient shrinks {times(-fading)} on its way back, then underflows to 0"
        return Verdict("vanishing", label(last), fading, reason)
    lost = next((stats[j] for j in blocked if stats[j].dead > _DEAD), None)
    if lost is not None:
        why = f"{100 * lost.dead:.3g} % of its units are 0 for every sample, and no gradient passes it"
        return Verdict("dead", label(lost), lost.dead, why)
    why = "its signal passes, but the gradient is cut off after it" if last.cut else "no gradient passes it"
    return Verdict("dead", label(last), 0.0, why)


def _grown(
    code: Literal["exploding", "vanishing"], stats: Sequence[LayerStat], growth: Growth, limit: float
) -> Verdict | None:
    if (growth.total if code == "exploding" else -growth.total) <= limit:
        return None
    end = len(stats) - 1 if growth.what == "signal" else 1
    at = label(stats[end if growth.at is None else growth.at])
    shape = f" in one step there, of {len(stats)} layers" if growth.at is not None else f" over {len(stats)} layers"
    return Verdict(code, at, growth.total, f"{growth}{shape}")


def _saturated(stats: Sequence[LayerStat], structure: Structure) -> Verdict | None:
    measured = [s for s in stats if not math.isnan(s.saturated)]
    # One layer stops all that passes it; a gate beside a skip does not.
    enough = 1 if structure.plain else (len(measured) + 1) // 2
    if not measured or sum(s.saturated > _SATURATED for s in measured) < enough:
        return None
    worst = max(measured, key=lambda s: s.saturated)
    reason = f"{100 * worst.saturated:.3g} % of its units are at the ends of {worst.activation}, where it has no slope"
    return Verdict("saturated", label(worst), worst.saturated, reason)


def _collapsed(stats: Sequence[LayerStat]) -> Verdict | None:
    before, after = stats[0].read_cosine, stats[-1].read_cosine
    if len(stats) > 1:  # pooling makes samples alike, so what is before it counts too; zeros have no angle
        last_hidden = stats[-2]
        after = min(after, last_hidden.read_cosine if math.isnan(last_hidden.cosine) else last_hidden.cosine)
    if 1 - before < _ALIKE and 1 - after < _ALIKE:
        reason = f"two samples have the cosine {before:.5f} before the first layer: something they share is large"
        return Verdict("collapsed", INPUT, before, reason)
    if 1 - after < _apart(stats):
        reason = f"two samples have the cosine {after:.5f} after {len(stats)} layers, {before:.3f} before"
        return Verdict("collapsed", label(stats[-2]), after, reason)
    return None


def _apart(stats: Sequence[LayerStat]) -> float:
    """The least value of 1 - cosine between samples that lets the layers learn."""
    return _APART * min(1.0, len(stats) / _DEPTH) * (1 - stats[0].read_cosine)


def _dead_units(stats: Sequence[LayerStat]) -> Verdict | None:
    lost = next((s for s in stats[:-1] if s.dead > _DEAD), None)
    if lost is None:
        return None
    return Verdict("dead", label(lost), lost.dead, f"{100 * lost.dead:.3g} % of its units are 0 for every sample")


def _fluctuates(structure: Structure) -> Verdict | None:
    beta = structure.beta
    if not (structure.plain and structure.rectifies and beta > 1) or structure.normalized or structure.recurrent:
        return None
    reason = (
        f"the sum of 1 / width over its layers is {beta:.3g}: from one draw of the weights to the next the logarithm "
        f"of squared gradients has the deviation {math.sqrt(5 * beta):.2g}"
    )
    return Verdict("fluctuation", None, beta, reason)


def _structural(stats: Sequence[LayerStat], freed: frozenset[int]) -> Verdict | None:
    if not freed:
        return None
    what = "one layer has" if len(freed) == 1 else f"{len(freed)} layers have"
    reason = f"{what} no gradient until tensors that start at 0 move, and these have one"
    return Verdict("structural_zero", label(stats[min(freed)]), 0.0, reason)
