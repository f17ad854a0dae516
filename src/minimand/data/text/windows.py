"""Windows of a text: token ids and the tokens that follow them, as samples of one length."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch
from ..samples import NO_CLASS, WHOLE, Samples


@dataclass(frozen=True, eq=False)
class Windows(Samples):
    """Windows of `context` tokens with the tokens that follow each: inputs (N, T), targets the inputs moved by one.

    In order, they lie end to end. Shuffled by a seed, they begin at a random offset, and are drawn without repetition
    until the text is used up, then anew: an epoch is as many windows as cover the text once, or as many as are wanted.
    A window that a text or a document does not fill has NO_CLASS as targets beyond its end, where inputs repeat the
    last token: a causal model needs no mask, as no token that counts looks there.
    """

    tokens: np.ndarray = field(repr=False)
    """All token ids (n,), memory-mapped as a rule."""
    context: int
    key: str
    """What the tokens are, as a digest of text and tokenizer."""
    limit: int | None = None
    """The number of windows of an epoch, or, in order, the most, evenly over the text; None for all."""
    bounds: np.ndarray | None = field(default=None, repr=False)
    """Where each document begins, and the end of the last (d + 1,), for windows that never cross; else None."""

    @cached_property
    def _in_order(self) -> np.ndarray:
        """Windows that lie end to end (3, w): where each begins, and where its document, or the text, begins and ends.

        A document of a single token has none: nothing follows it.
        """
        bounds = np.array([0, len(self.tokens)]) if self.bounds is None else self.bounds
        counts = -(-np.maximum(np.diff(bounds) - 1, 0) // self.context)
        earlier = np.repeat(np.cumsum(counts) - counts, counts)
        firsts, ends = np.repeat(bounds[:-1], counts), np.repeat(bounds[1:], counts)
        return np.stack([firsts + self.context * (np.arange(counts.sum()) - earlier), firsts, ends])

    def __len__(self) -> int:
        return self._in_order.shape[1] if self.limit is None else self.limit

    def count(self, size: int, shuffled: bool) -> int:
        return max(len(self) // size, 1) if shuffled else -(-min(len(self), self._in_order.shape[1]) // size)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        begins, ends = self._evenly() if seed is None else self._drawn(seed)
        for b in range(first, self.count(size, seed is not None)):
            rows = slice(b * size, (b + 1) * size)
            yield self._read(begins[rows][share], ends[rows][share])

    def held_out(self, share: float) -> tuple["Windows", "Windows"]:
        """The windows before and after a place that leaves a share of the tokens behind it."""
        cut = len(self.tokens) - round(share * len(self.tokens))
        if self.bounds is None:
            parts = self.tokens[:cut], self.tokens[cut:]
            bounds: tuple[np.ndarray | None, np.ndarray | None] = None, None
        else:
            middle = int(np.clip(np.searchsorted(self.bounds, cut), 1, len(self.bounds) - 2))
            cut = int(self.bounds[middle])
            parts = self.tokens[:cut], self.tokens[cut:]
            bounds = self.bounds[: middle + 1], self.bounds[middle:] - cut
        rest, aside = (
            replace(self, tokens=tokens, bounds=inner, key=f"{self.key} {where}")
            for tokens, inner, where in zip(parts, bounds, (f"before {cut}", f"from {cut}"), strict=True)
        )
        return rest, replace(aside, limit=None if self.limit is None else max(round(share * self.limit), 1))

    def _evenly(self) -> tuple[np.ndarray, np.ndarray]:
        """Where windows begin and may read to: all in order, or as many as are wanted, evenly over the text."""
        begins, _, ends = self._in_order
        chosen = np.linspace(0, len(begins) - 1, min(len(self), len(begins))).round().astype(np.int64)
        return begins[chosen], ends[chosen]

    def _drawn(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the windows of an epoch begin and may read to, by its seed."""
        generator = torch.Generator().manual_seed(seed)
        in_order, firsts, ends = self._in_order
        chosen: list[np.ndarray] = []
        left = len(self)
        while left > 0:
            offset = int(torch.randint(self.context, (), generator=generator))
            order = torch.randperm(len(in_order), generator=generator)[:left].numpy()
            # A window that would begin too late to be full begins earlier, but never in another document.
            begins = np.maximum(np.minimum(in_order + offset, ends - 1 - self.context), firsts)
            chosen.append(np.stack([begins, ends])[:, order])
            left -= len(order)
        begins, ends = np.concatenate(chosen, axis=1)
        return begins, ends

    def _read(self, begins: np.ndarray, ends: np.ndarray) -> Batch:
        rows = begins[:, None] + np.arange(self.context + 1)
        is_whole = len(begins) == 0 or bool((rows[:, -1] < ends).all())
        chosen = rows if is_whole else np.minimum(rows, ends[:, None] - 1)
        tokens: Tensor = torch.from_numpy(self.tokens[chosen].astype(np.int64))
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].clone()  # a single row's views would overlap
        if not is_whole:
            targets[torch.from_numpy(rows[:, 1:] >= ends[:, None])] = NO_CLASS
        return inputs, targets
