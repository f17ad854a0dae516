"""Verdicts: why a network would not train, as a code, the layer, the evidence, and what repairs it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..measure.connection import Disconnection
from ..measure.layer_stat import LIMIT, Growth, LayerStat, faded, growths, times
from ..measure.reading import Missing, number, numbers
from .remedy import Remedy
from .structure import Structure

VerdictCode = Literal[
    "ok",
    "vanishing",
    "exploding",
    "collapsed",
    "saturated",
    "dead",
    "disconnected",
    "nonfinite",
    "structural_zero",
    "fluctuation",
]
Severity = Literal["none", "note", "warning", "fatal"]

INPUT = "the input"
"""The name in place of a layer where a verdict blames the input."""

_SEVERITY: dict[VerdictCode, Severity] = {
    **dict.fromkeys(("fluctuation", "saturated", "collapsed"), "warning"),
    **dict.fromkeys(("vanishing", "exploding", "dead", "disconnected", "nonfinite"), "fatal"),
    "ok": "none",
    "structural_zero": "note",
}
# A growth beyond the limit makes training hard; one beyond the square of it, hopeless.
_HOPELESS = 2
# Tokens are compared in the last of so many layers, as what is inside a branch may be alike.
_LATE = 8

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
    """The number that decided, if one did; `reason` says which it is."""
    reason: str = ""
    remedy: Remedy | None = None
    mild: bool = False
    """Whether a fault of a kind that is fatal most often is a mild one, with which a network may train."""

    @property
    def severity(self) -> Severity:
        """The severity. note: as it is meant to be. warning: trains badly. fatal: does not train."""
        severity = _SEVERITY[self.code]
        return "warning" if self.mild and severity == "fatal" else severity

    @property
    def action(self) -> str | None:
        """The calls that repair the network, or the advice, as text."""
        return None if self.remedy is None else str(self.remedy)

    def __str__(self) -> str:
        where = f" at {self.layer}" if self.layer else ""
        reason = f": {self.reason}." if self.reason else ""
        repair = f" Repair: {self.remedy}" if self.remedy else ""
        return f"{self.code}{where}{reason}{repair}"


@dataclass(frozen=True)
class Evidence:
    """Everything that a verdict is made of."""

    stats: Sequence[LayerStat]
    structure: Structure
    freed: frozenset[int] = frozenset()
    """The layers without gradient that have one as soon as tensors that start at 0 move."""
    broken: str | None = None
    """A parameter that has entries which are not finite."""
    disconnected: Sequence[Disconnection] = ()
    nan_function: str | None = None
    """The function whose backward pass makes the first NaN."""


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a network, without remedy."""
    stats, structure, freed = evidence.stats, evidence.structure, evidence.freed
    signal, gradient = growths(stats, structure.plain)
    return (
        _nonfinite(stats, evidence.broken)
        or _cut_off(evidence.disconnected, unused=False)
        or _nan_gradient(stats, evidence.nan_function)
        or _blocked(stats, freed)
        or _grown("exploding", stats, max(signal, gradient, key=lambda growth: growth.total), structure.limit)
        or _saturated(stats, structure)
        or _grown("vanishing", stats, min(signal, gradient, key=lambda growth: growth.total), structure.limit)
        or _alike_inputs(stats)
        or _scaled_inputs(stats, structure)
        or _collapsed(stats)
        or _alike_tokens(stats, structure)
        or _dead_units(stats, freed)
        or _fluctuates(structure)
        or _cut_off(evidence.disconnected, unused=True)
        or _structural(stats, freed)
        or Verdict("ok", None, max(signal.total, gradient.total, key=abs), f"{signal}, {gradient}; samples stay apart")
    )


def judge_layer(i: int, evidence: Evidence) -> Verdict:
    """The verdict on the layer that ran as number i; its growth is counted from the last hidden layer."""
    stats, structure, freed = evidence.stats, evidence.structure, evidence.freed
    stat, reference = stats[i], stats[max(len(stats) - 2, 0)]
    name = label(stat)
    if number(stat.nonfinite, 0.0) > 0:
        share = number(stat.nonfinite, 0.0)
        return Verdict("nonfinite", name, share, f"{100 * share:.3g} % of its output is not finite")
    lost = [one for one in evidence.disconnected if one.layer == stat.name and one.last >= 0]
    if lost:
        return Verdict("disconnected", name, reason=lost[0].cause, mild=lost[0].unused)
    if stat.has_nan_gradient:
        return Verdict("nonfinite", name, reason="its gradient is NaN")
    if i in freed:
        return Verdict("structural_zero", name, 0.0, "it has no gradient until a tensor that starts at 0 moves")
    if stat.blocked and i < len(stats) - 1 and faded(stats, i) > -LIMIT:
        return Verdict("dead", name, 0.0, "its gradient is exactly 0")
    if number(stat.dead, 0.0) > _DEAD:
        return _dead_units([stat, stat], frozenset()) or Verdict("ok", name)
    return _grown_since(i, stats, reference, structure) or _of_one(stat, stats) or Verdict("ok", name)


def _grown_since(i: int, stats: Sequence[LayerStat], reference: LayerStat, structure: Structure) -> Verdict | None:
    """The verdict on the gradient that passes a hidden layer, beside that of a reference."""
    here, there = number(stats[i].read_gradient, -1.0), number(reference.read_gradient, -1.0)
    if not (0 < i < len(stats) - 1 and here >= 0 and there > 0):
        return None
    growth = math.log(here / there) if here else -math.inf
    if abs(growth) <= structure.limit:
        return None
    reason = f"the squared gradient that passes it is {times(growth)} that of {label(reference)}"
    mild = abs(growth) <= _HOPELESS * structure.limit
    return Verdict("exploding" if growth > 0 else "vanishing", label(stats[i]), growth, reason, mild=mild)


def _of_one(stat: LayerStat, stats: Sequence[LayerStat]) -> Verdict | None:
    saturated, cosine = number(stat.saturated, 0.0), number(stat.cosine, 0.0)
    if saturated > _SATURATED:
        return Verdict("saturated", label(stat), saturated, f"{100 * saturated:.3g} % of its units are saturated")
    if 1 - cosine < _apart(stats):
        return Verdict("collapsed", label(stat), cosine, f"the mean cosine between samples is {cosine:.5f}")
    return None


def label(stat: LayerStat) -> str:
    """The layer's name, with the number of its run where it is not the first."""
    name = stat.name or stat.kind
    return f"{name} (run {stat.call_index + 1})" if stat.call_index else name


def _nonfinite(stats: Sequence[LayerStat], broken: str | None) -> Verdict | None:
    if broken is not None:
        name = broken.rpartition(".")[0] or broken
        return Verdict("nonfinite", name, reason=f"the parameter {broken} has entries that are NaN or infinite")
    i = next((i for i, s in enumerate(stats) if number(s.nonfinite, 0.0) > 0), None)
    if i is None:
        return None
    before = numbers((stats[i - 1].second_moment, stats[0].second_moment)) if i > 1 else []
    grown = math.log(before[0] / before[1]) if len(before) == 2 and before[1] > 0 else 0.0
    if grown > LIMIT:
        return Verdict("exploding", label(stats[i]), grown, f"the squared signal grows {times(grown)}, then overflows")
    share = number(stats[i].nonfinite, 0.0)
    return Verdict("nonfinite", label(stats[i]), share, "its output is not finite, though its weights are")


def _cut_off(disconnected: Sequence[Disconnection], unused: bool) -> Verdict | None:
    """The verdict on parameters without a path from the output, blaming the layer nearest to it."""
    lost = [one for one in disconnected if one.unused == unused]
    if not lost:
        return None
    worst = max(lost, key=lambda one: one.last)
    others = list(dict.fromkeys(one.layer or one.parameter for one in lost if one.layer != worst.layer))
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    also = f"; nor does one reach {', '.join(others[:3])}{more}" if others else ""
    reason = f"no gradient reaches {worst.parameter}: {worst.cause}{also}"
    return Verdict("disconnected", worst.layer or worst.parameter, len(lost), reason, mild=unused)


def _nan_gradient(stats: Sequence[LayerStat], function: str | None) -> Verdict | None:
    broken = [s for s in stats if s.has_nan_gradient]
    if not broken:
        return None
    by = f", made first by the gradient of {function}," if function else ""
    return Verdict("nonfinite", label(broken[-1]), reason=f"its gradient is NaN{by} though its output is finite")


def _blocked(stats: Sequence[LayerStat], freed: frozenset[int]) -> Verdict | None:
    """The verdict on a gradient that is exactly 0: cut off, or faded below the smallest number."""
    blocked = [i for i in range(len(stats) - 1) if stats[i].blocked and i not in freed]
    if not blocked:
        return None
    last, fading = stats[blocked[-1]], faded(stats, blocked[-1])
    if fading < -LIMIT:
        reason = f"the squared gradient shrinks {times(-fading)} on its way back, then underflows to 0"
        return Verdict("vanishing", label(last), fading, reason)
    lost = next((stats[j] for j in blocked if number(stats[j].dead, 0.0) > _DEAD), None)
    if lost is not None:
        dead = number(lost.dead, 0.0)
        why = f"{100 * dead:.3g} % of its units are 0 for every sample, and no gradient passes it"
        return Verdict("dead", label(lost), dead, why)
    why = "its signal passes, but the gradient after it is exactly 0" if last.cut else "no gradient passes it"
    return Verdict("dead", label(last), 0.0, why)


def _grown(
    code: Literal["exploding", "vanishing"], stats: Sequence[LayerStat], growth: Growth, limit: float
) -> Verdict | None:
    size = growth.total if code == "exploding" else -growth.total
    if size <= limit:
        return None
    end = len(stats) - 1 if growth.what == "signal" else 1
    at = label(stats[end if growth.at is None else growth.at])
    shape = f" in one step there, of {len(stats)} layers" if growth.at is not None else f" over {len(stats)} layers"
    return Verdict(code, at, growth.total, f"{growth}{shape}", mild=size <= _HOPELESS * limit)


def _saturated(stats: Sequence[LayerStat], structure: Structure) -> Verdict | None:
    measured = [(s.saturated, s) for s in stats if not isinstance(s.saturated, Missing)]
    # One layer stops all that passes it; a gate beside a skip does not.
    enough = 1 if structure.plain else (len(measured) + 1) // 2
    if not measured or sum(share > _SATURATED for share, _ in measured) < enough:
        return None
    share, worst = max(measured, key=lambda pair: pair[0])
    reason = f"{100 * share:.3g} % of its units are at the ends of {worst.activation}, where it has no slope"
    return Verdict("saturated", label(worst), share, reason)


def _ends(stats: Sequence[LayerStat]) -> tuple[float, float] | None:
    """The cosine between samples before the first layer and after the last hidden one; None if not measured."""
    # Pooling makes samples alike, so what is before it counts too; zeros have no angle.
    hidden = [stats[-2].cosine, stats[-2].read_cosine] if len(stats) > 1 else []
    after = numbers([stats[-1].read_cosine, *hidden[: 1 if numbers(hidden[:1]) else 2]])
    before = numbers([stats[0].read_cosine])
    return (before[0], min(after)) if before and after else None


def _alike_inputs(stats: Sequence[LayerStat]) -> Verdict | None:
    ends = _ends(stats)
    if ends is None or not (1 - ends[0] < _ALIKE and 1 - ends[1] < _ALIKE):
        return None
    reason = f"two samples have the cosine {ends[0]:.5f} before the first layer: something they share is large"
    return Verdict("collapsed", INPUT, ends[0], reason)


def _scaled_inputs(stats: Sequence[LayerStat], structure: Structure) -> Verdict | None:
    """The verdict on inputs so large or small that the first layer steps too far, or drowns them in its bias."""
    square = number(stats[0].read_second_moment, 1.0)
    if structure.normalized or not structure.reads_numbers or not 0 < square < math.inf:
        return None
    growth = math.log(square)
    if abs(growth) <= LIMIT:
        return None
    reason = f"its root mean square is {math.sqrt(square):.3g}, and weights are made for about 1"
    return Verdict("exploding" if growth > 0 else "vanishing", INPUT, growth, reason, mild=True)


def _collapsed(stats: Sequence[LayerStat]) -> Verdict | None:
    ends = _ends(stats)
    if ends is None or 1 - ends[1] >= _apart(stats):
        return None
    reason = f"two samples have the cosine {ends[1]:.5f} after {len(stats)} layers, {ends[0]:.3f} before"
    return Verdict("collapsed", label(stats[-2 if len(stats) > 1 else -1]), ends[1], reason)


def _alike_tokens(stats: Sequence[LayerStat], structure: Structure) -> Verdict | None:
    """The verdict on attention that has averaged all tokens of a sample into one."""
    measured = [(s.read_token_cosine, s) for s in stats if not isinstance(s.read_token_cosine, Missing)]
    if not structure.attends or len(measured) < 2:
        return None
    before = measured[0][0]
    after, last = min(measured[-min(_LATE, len(measured) // 2) :], key=lambda pair: pair[0])
    if 1 - before < _ALIKE or 1 - after >= _still_apart(stats, before):
        return None
    reason = f"two tokens of a sample have the cosine {after:.5f} after {len(stats)} layers, {before:.3f} before"
    why = "" if structure.has_skips else ": attention averages tokens, and no skip carries what tells them apart"
    return Verdict("collapsed", label(last), after, f"{reason}{why}")


def _apart(stats: Sequence[LayerStat]) -> float:
    """The least value of 1 - cosine between samples that lets the layers learn; 0 if that is not measured."""
    before = numbers([stats[0].read_cosine])
    return _still_apart(stats, before[0]) if before else 0.0


def _still_apart(stats: Sequence[LayerStat], before: float) -> float:
    return _APART * min(1.0, len(stats) / _DEPTH) * (1 - before)


def _dead_units(stats: Sequence[LayerStat], freed: frozenset[int]) -> Verdict | None:
    dead = [(number(s.dead, 0.0), s) for i, s in enumerate(stats[:-1]) if i not in freed]
    lost = next(((share, s) for share, s in dead if share > _DEAD), None)
    if lost is None:
        return None
    return Verdict("dead", label(lost[1]), lost[0], f"{100 * lost[0]:.3g} % of its units are 0 for every sample")


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
