"""Targets of thresholds found by trial: what falls is the loss of the layers above, as a function of the activation."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ....layers.thresholds import Threshold

Search = Literal["search", "beam"]
SEARCHES: tuple[str, ...] = get_args(Search)

LossAbove = Callable[[Tensor], Tensor]
"""A function from activations (N, ...) to the loss of each sample (N,)."""

# The widest beam: more of it would be taken from the depth.
_WIDTH = 4


def searched(kind: Search, h: Tensor, g: Tensor, threshold: Threshold, loss: LossAbove, budget: int) -> Tensor:
    """Targets -sign(g) where trying them out lowered the loss above, sample by sample, by at most `budget` calls of it.

    The activations h (N, ...) are of a threshold, g is the gradient by them. A move takes a unit one level against its
    gradient. A unit that could be moved and is not has no target: 0.

    In "search", guided random local search, moves are drawn in proportion to what the gradient promises of them, all at
    first, then fewer where the loss did not fall, and with moves back. In "beam" moves are decided on in groups, the
    most promising first, and the best few decisions of each sample are kept.
    """
    top = threshold.levels - 1
    codes = (threshold.codes(h).to(torch.int16) - g.sign().to(torch.int16)).clamp_(0, top)
    moved = threshold.from_codes(codes, h.dtype)
    promise = (h - moved) * g
    search = _local_search if kind == "search" else _beam_search
    moves = search(promise, lambda moves: loss(torch.where(moves, moved, h)), budget)
    return -g.sign() * (moves | (promise <= 0))


def _local_search(promise: Tensor, loss: LossAbove, budget: int) -> Tensor:
    # `promise`, not negative, is what the gradient says that each move lowers the loss by.
    per_sample = (-1, *[1] * (promise.ndim - 1))
    promising = promise > 0
    average = promise.flatten(1).sum(1).div(promising.flatten(1).sum(1).clamp(min=1)).view(per_sample)
    worth = torch.where(average > 0, promise / average, 0.0)
    moves = torch.zeros_like(promising)
    least = loss(moves)
    tried = promising  # the published move: every one that promises something
    share = torch.ones_like(least)
    for _ in range(budget - 1):
        value = loss(tried)
        fell = value < least
        least = torch.where(fell, value, least)
        moves = torch.where(fell.view(per_sample), tried, moves)
        share = torch.where(fell, share, share / 2)
        chance = torch.where(moves, 1 / (1 + worth), worth) * share.view(per_sample)
        tried = moves ^ ((torch.rand_like(chance) < chance) & promising)
    return moves


def _beam_search(promise: Tensor, loss: LossAbove, budget: int) -> Tensor:
    width = max(1, min(_WIDTH, (budget - 1) // 2))
    rounds = max(1, (budget - 1) // width)
    promising = promise > 0
    rank = promise.flatten(1).argsort(1, descending=True).argsort(1)
    count = promising.flatten(1).sum(1, keepdim=True).clamp(min=1)
    group = (rank * rounds // count).view_as(promise)  # moves of no promise come after the last group
    beam = torch.zeros((1, *promise.shape), dtype=torch.bool, device=promise.device)
    values = loss(beam[0])[None]
    for i in range(rounds):
        longer = beam | ((group == i) & promising)
        values = torch.cat([values, torch.stack([loss(moves) for moves in longer])])
        beam = torch.cat([beam, longer])
        values, best = values.topk(min(width, len(values)), dim=0, largest=False)
        beam = beam[best, torch.arange(len(promise), device=promise.device)]
    return beam[0]
