"""Exact linear algebra: matrices of fractions, and what sympy computes with them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sympy.polys.matrices import DomainMatrix

Matrix = tuple[tuple[Fraction, ...], ...]
"""A matrix as a tuple of its rows."""


def rational(value: Fraction) -> Any:
    """A fraction as sympy's rational number."""
    from sympy import QQ

    return QQ(value.numerator, value.denominator)


def exact_matrix(matrix: Matrix) -> DomainMatrix:
    """A matrix of fractions as sympy's."""
    from sympy import QQ
    from sympy.polys.matrices import DomainMatrix

    rows = [[rational(entry) for entry in row] for row in matrix]
    return DomainMatrix(rows, (len(rows), len(rows[0]) if rows else 0), QQ)


def fractions(matrix: DomainMatrix) -> Matrix:
    """A matrix of sympy as one of fractions."""
    return tuple(tuple(Fraction(int(c.numerator), int(c.denominator)) for c in row) for row in matrix.to_list())


def stacked(matrices: list[DomainMatrix]) -> DomainMatrix:
    """One row for each matrix, its entries in order."""
    from sympy.polys.matrices import DomainMatrix

    rows = [[entry for row in matrix.to_dense().to_list() for entry in row] for matrix in matrices]
    return DomainMatrix(rows, (len(rows), len(rows[0])), matrices[0].domain)


def invariant_rows(rows: DomainMatrix, A: DomainMatrix) -> DomainMatrix:
    """A basis, as rows, of the smallest row space that holds `rows` and is closed under right-multiplying A."""
    basis = row_basis(rows)
    while True:
        larger = row_basis(basis.vstack(basis * A))
        if larger.shape[0] == basis.shape[0]:
            return basis
        basis = larger


def row_basis(rows: DomainMatrix) -> DomainMatrix:
    """A basis, as rows, of the row space of a matrix."""
    reduced, pivot_columns = rows.to_dense().rref()
    return reduced.extract(list(range(len(pivot_columns))), list(range(rows.shape[1])))


def independent_columns(columns: DomainMatrix) -> DomainMatrix:
    """The first columns of a matrix that span its column space."""
    _, pivot_columns = columns.to_dense().rref()
    return columns.extract(list(range(columns.shape[0])), list(pivot_columns))


def solve(P: DomainMatrix, X: DomainMatrix) -> DomainMatrix:
    """The Y with P Y = X, where the columns of P are independent and span those of X."""
    return (P.transpose() * P).inv() * P.transpose() * X
