"""Targets of thresholds found by trying: what falls is the loss of the layer above, as a function of the activation."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ....layers.thresholds import Threshold

Search = Literal["search", "beam"]
SEARCHES: tuple[str, ...] = get_args(Search)

LossAbove = Callable[[Tensor], Tensor]
"""From activations (N, ...) to the loss of each sample (N,)."""

# The widest beam: more of it would be taken from the depth.
_WIDTH = 4


def searched(kind: Search, h: Tensor, g: Tensor, threshold: Threshold, loss: LossAbove, budget: int) -> Tensor:
    """Targets -sign(g) where that was found to lower the loss above, sample by sample.

    A move takes a unit one level against its gradient. What could be moved and is not has no target: 0.

    Args:
        kind: "search", guided random local search: moves are drawn in proportion to what the gradient promises of them,
            all at first, then fewer where the loss did not fall, and with moves back. "beam": moves are decided on in
            groups, the most promising first, and the best few decisions of each sample are kept.
        h: the activations (N, ...).
        g: their gradient.
        threshold: what they are of.
        loss: of the layer above.
        budget: how often `loss` may be asked.
    """
    top = threshold.levels - 1
    codes = (threshold.codes(h).to(torch.int16) - g.sign().to(torch.int16)).clamp_(0, top)
    moved = threshold.from_codes(codes, h.dtype)
    promise = (h - moved) * g
    find = _local if kind == "search" else _beam
    moves = find(promise, lambda moves: loss(torch.where(moves, moved, h)), budget)
    return -g.sign() * (moves | (promise <= 0))


def _local(promise: Tensor, loss: LossAbove, budget: int) -> Tensor:
    worth = promise / _by_sample(promise).sum(1).div(_by_sample(promise > 0).sum(1).clamp(min=1)).view(_one(promise))
    worth = worth.nan_to_num(0.0, 0.0, 0.0)
    moves = torch.zeros_like(promise, dtype=torch.bool)
    best = loss(moves)
    tried = promise > 0  # what is published
    share = torch.ones_like(best)
    for _ in range(budget - 1):
        value = loss(tried)
        fell = value < best
        best = torch.where(fell, value, best)
        moves = torch.where(fell.view(_one(promise)), tried, moves)
        share = torch.where(fell, share, share / 2)
        change = torch.where(moves, 1 / (1 + worth), worth) * share.view(_one(promise))
        tried = moves ^ ((torch.rand_like(change) < change) & (promise > 0))
    return moves


def _beam(promise: Tensor, loss: LossAbove, budget: int) -> Tensor:
    width = max(1, min(_WIDTH, (budget - 1) // 2))
    rounds = max(1, (budget - 1) // width)
    rank = _by_sample(promise).argsort(1, descending=True).argsort(1)
    count = _by_sample(promise > 0).sum(1, keepdim=True).clamp(min=1)
    group = (rank * rounds // count).view_as(promise)  # those of no promise come after the last one
    beam = torch.zeros((1, *promise.shape), dtype=torch.bool, device=promise.device)
    values = loss(beam[0])[None]
    for i in range(rounds):
        longer = beam | ((group == i) & (promise > 0))
        values = torch.cat([values, torch.stack([loss(moves) for moves in longer])])
        beam = torch.cat([beam, longer])
        values, kept = values.topk(min(width, len(values)), dim=0, largest=False)
        beam = beam[kept, torch.arange(len(promise), device=promise.device)]
    return beam[0]


def _by_sample(x: Tensor) -> Tensor:
    return x.flatten(1)


def _one(x: Tensor) -> tuple[int, ...]:
    """The shape that one number for each sample has beside x."""
    return (-1, *[1] * (x.ndim - 1))
