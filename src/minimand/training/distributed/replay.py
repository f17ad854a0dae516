"""A bounded buffer of batches that are read more than once: the policy of asynchronous decoupled training."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Stored(Generic[T]):
    item: T
    uses: int = 1


class Buffer(Generic[T]):
    """The last `capacity` batches; read is the newest of the least used ones (Belilovsky et al. 2020, priority LIFO).

    A batch that is written has been used once, by the module that made it; a new one takes the place of the oldest.
    """

    def __init__(self, capacity: int, max_reuse: int | None = None) -> None:
        """`max_reuse`: how often a batch is read, at most."""
        self.max_reuse = max_reuse
        self._stored: deque[_Stored[T]] = deque(maxlen=capacity)

    def write(self, item: T) -> None:
        """Store a batch, which its maker has used once."""
        self._stored.append(_Stored(item))

    def read(self, beyond: bool = False) -> T | None:
        """A batch to train on; None where there is none, or none that may be read again, unless `beyond` lets it."""
        least = min(reversed(self._stored), key=lambda stored: stored.uses, default=None)
        if least is None or (self.max_reuse is not None and least.uses > self.max_reuse and not beyond):
            return None
        least.uses += 1
        return least.item
