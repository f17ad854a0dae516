"""Small matrices of fractions: what the inverse of every single step of a deep network is found with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_ZERO, _ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Exact:
    """A matrix of fractions as a tuple of its rows; the number of columns is kept for one without rows."""

    rows: tuple[tuple[Fraction, ...], ...]
    columns: int

    @staticmethod
    def of(rows: Sequence[Sequence[Fraction]], columns: int | None = None) -> Exact:
        """The matrix of these rows; without rows, of so many columns."""
        return Exact(tuple(map(tuple, rows)), len(rows[0]) if rows else columns or 0)

    @staticmethod
    def eye(size: int) -> Exact:
        """The identity matrix of a size, (size, size), in exact numbers."""
        return Exact.of([[_ONE if i == j else _ZERO for j in range(size)] for i in range(size)], size)

    @property
    def T(self) -> Exact:
        """The transposed matrix, of shape (columns, rows)."""
        return Exact(tuple(zip(*self.rows, strict=True)) if self.rows else ((),) * self.columns, len(self.rows))

    @property
    def is_zero(self) -> bool:
        """Whether every entry of the matrix is 0."""
        return not any(any(row) for row in self.rows)

    @property
    def is_identity(self) -> bool:
        """Whether the matrix is the identity."""
        size = self.columns
        return len(self.rows) == size and all(
            row[i] == 1 and not any(row[:i]) and not any(row[i + 1 :]) for i, row in enumerate(self.rows)
        )

    def __matmul__(self, other: Exact) -> Exact:
        if self.is_identity:  # most of what is seen and reached of a state is all of it
            return other
        if other.is_identity:
            return self
        columns = other.T.rows
        rows = [[_dot(row, column) for column in columns] for row in self.rows]
        return Exact.of(rows, other.columns)

    def __add__(self, other: Exact) -> Exact:
        pairs = zip(self.rows, other.rows, strict=True)
        return Exact.of([[a + b for a, b in zip(p, q, strict=True)] for p, q in pairs], self.columns)

    def __sub__(self, other: Exact) -> Exact:
        return self + Exact.of([[-c for c in row] for row in other.rows], other.columns)

    def above(self, other: Exact) -> Exact:
        """Both matrices as one, the rows of the other below."""
        return Exact(self.rows + other.rows, self.columns)

    def beside(self, other: Exact) -> Exact:
        """Both matrices as one, the columns of the other to the right."""
        rows = [a + b for a, b in zip(self.rows, other.rows, strict=True)]
        return Exact(tuple(rows), self.columns + other.columns)

    def part(self, rows: Sequence[int]) -> Exact:
        """The matrix of some of the rows."""
        return Exact(tuple(self.rows[i] for i in rows), self.columns)

    @property
    def reduced(self) -> tuple[Exact, tuple[int, ...]]:
        """The nonzero rows of the reduced row echelon form, which span the row space, and the columns of their ones."""
        rows, pivots = [list(row) for row in self.rows], []
        for column in range(self.columns):
            height = len(pivots)
            pivot = next((i for i in range(height, len(rows)) if rows[i][column]), None)
            if pivot is None:
                continue
            rows[height], rows[pivot] = rows[pivot], rows[height]
            lead = rows[height][column]
            rows[height] = [c / lead for c in rows[height]]
            for i, row in enumerate(rows):
                if i != height and row[column]:
                    factor = row[column]
                    rows[i] = [c - factor * p if p else c for c, p in zip(row, rows[height], strict=True)]
            pivots.append(column)
        return Exact.of(rows[: len(pivots)], self.columns), tuple(pivots)

    @property
    def rank(self) -> int:
        """The number of independent rows of the matrix, its rank."""
        return len(self.reduced[1])

    @property
    def nullspace(self) -> Exact:
        """Columns that span what the matrix maps to 0, (columns, dimension)."""
        reduced, pivots = self.reduced
        free = [column for column in range(self.columns) if column not in pivots]
        vectors = []
        for column in free:
            vector = [_ZERO] * self.columns
            vector[column] = _ONE
            for pivot, row in zip(pivots, reduced.rows, strict=True):
                vector[pivot] = -row[column]
            vectors.append(vector)
        return Exact.of(vectors, self.columns).T

    @property
    def inverse(self) -> Exact:
        """The inverse of a matrix of full rank."""
        size = len(self.rows)
        return Exact.of([row[size:] for row in self.beside(Exact.eye(size)).reduced[0].rows], size)


def _dot(row: Sequence[Fraction], column: Sequence[Fraction]) -> Fraction:
    total = _ZERO
    for a, b in zip(row, column, strict=True):
        if a and b:
            total += a * b
    return total
