"""Examinations: a network is measured and judged, and so are its repairs, on a copy, before one is offered."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..measure.connection import disconnections
from ..measure.layer_stat import Measured
from ..measure.statistics import LossChoice, measure
from ..measure.tracing import broken_parameters
from .remedy import Remedy, no_repair, of_input, of_nan, of_tokens, repairs
from .structure import Structure, branches_let_in, freed_by_moving_zeros
from .verdict import INPUT, Evidence, Verdict, judge

_RANKS = ("none", "note", "warning", "fatal")
# Samples whose cosine is larger than this after they are standardized are the same.
_SAME = 0.98


def examine(
    model: nn.Module, batch: Any, loss: LossChoice | None = None, target: Any = None, probes: int = 1
) -> tuple[Measured, Evidence, Verdict]:
    """Measure a network on a batch, and judge it, without a remedy."""
    measured = measure(model, batch, loss, target, probes)
    stats = measured.layers
    blocked = frozenset(i for i, s in enumerate(stats[:-1]) if s.blocked)
    evidence = Evidence(
        stats,
        Structure.of(model, batch, measured),
        freed_by_moving_zeros(model, batch, blocked) if blocked else frozenset(),
        next(iter(broken_parameters(model)), None),
        disconnections(model, batch, measured),
        measured.nan_function,
    )
    return measured, evidence, _unless_meant(judge(evidence), evidence, model, batch)


def _unless_meant(verdict: Verdict, evidence: Evidence, model: nn.Module, batch: Any) -> Verdict:
    """The verdict; where samples are alike only as branches start at almost nothing, that this is meant."""
    if verdict.code != "collapsed" or verdict.layer == INPUT or not evidence.structure.has_skips:
        return verdict
    with branches_let_in(model) as any_small:
        if not any_small or judge(replace(evidence, stats=measure(model, batch).layers)).code == "collapsed":
            return verdict
    reason = "samples are alike until the small factors of its branches grow, as they are meant to"
    return Verdict("structural_zero", verdict.layer, verdict.evidence, reason)


def remedy_for(verdict: Verdict, evidence: Evidence, model: nn.Module, batch: Any) -> Remedy | None:
    """What repairs a network: calls that were made on a copy of it and helped there, or else advice."""
    structure = evidence.structure
    if verdict.severity in ("none", "note"):
        return None
    if verdict.layer == INPUT:
        same = verdict.code == "collapsed" and structure.reads_numbers and _are_same(batch)
        return Remedy(advice="give a batch of different samples: these are the same") if same else of_input(structure)
    if verdict.code == "disconnected":
        blamed = [d for d in evidence.disconnected if d.unused == verdict.mild]
        return Remedy(advice=max(blamed, key=lambda one: one.last).advice)
    if verdict.code == "nonfinite" and evidence.broken is None and any(s.has_nan_gradient for s in evidence.stats):
        return of_nan(evidence.nan_function)
    if "two tokens" in verdict.reason and (advice := of_tokens(structure)) is not None:
        return advice
    best, rank = no_repair(verdict.code, structure), _RANKS.index(verdict.severity)
    for remedy in repairs(verdict.code, verdict.layer, structure, evidence.stats):
        if not remedy.calls:
            return remedy
        after = _rank_after(remedy, model, batch)
        if after < rank:
            best, rank = remedy, after
        if rank <= _RANKS.index("note"):
            break
    return best


def _rank_after(remedy: Remedy, model: nn.Module, batch: Any) -> int:
    """How severe the verdict is on a copy of the model that the remedy was applied to."""
    try:
        repaired = copy.deepcopy(model)
        remedy.apply(repaired, batch)
        return _RANKS.index(examine(repaired, batch)[2].severity)
    except (RuntimeError, ValueError, TypeError):  # it cannot be copied, or the scheme refuses it
        return len(_RANKS)


def _are_same(batch: Any) -> bool:
    """Whether a batch that is one tensor has samples which standardizing does not tell apart."""
    if not isinstance(batch, Tensor) or len(batch) < 2:
        return False
    x = batch.detach().double().flatten(1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    directions = torch.nn.functional.normalize(x)
    cosine = (directions.sum(0).square().sum() - len(x)) / (len(x) * (len(x) - 1))
    return not bool(x.any()) or float(cosine) > _SAME
