"""The vectors that a solver remembers of each sample."""

import torch
from torch import Tensor


class Memory:
    """Vectors, at most `size` of each of n samples, (m, n, D), written once each and then in turn.

    The whole is laid out at the first write, of which a CPU uses only the pages that are written.
    """

    vectors: Tensor

    def __init__(self, size: int) -> None:
        self.size, self.used = size, 0

    def write(self, slot: int, rows: Tensor) -> None:
        """Put a vector (n, D) of each sample into a slot."""
        if self.used == 0:
            self.vectors = rows.new_empty(self.size, *rows.shape)
        self.vectors[slot] = rows
        self.used = max(self.used, slot + 1)

    def products(self, rows: Tensor) -> Tensor:
        """The inner products (n, m) of the vectors with one of each sample, (n, D)."""
        return torch.bmm(self.vectors[: self.used].transpose(0, 1), rows.unsqueeze(2)).squeeze(2)

    def combine(self, weights: Tensor) -> Tensor:
        """The sum (n, D) of the vectors with weights (n, m)."""
        weights = weights.to(self.vectors.dtype)
        return torch.bmm(weights.unsqueeze(1), self.vectors[: self.used].transpose(0, 1)).squeeze(1)

    def keep(self, rows: Tensor) -> None:
        """Leave out all samples but some, given by ascending indices; in place, as a solve needs little else."""
        for slot in range(self.used):
            self.vectors[slot, : len(rows)] = self.vectors[slot, rows]
        if self.used:
            self.vectors = self.vectors[:, : len(rows)]
