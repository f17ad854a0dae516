"""An algorithm with its oracles cut out: a linear system, in exact numbers, where the state has constant size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...algorithms import Algorithm
from ..oracles import input_atoms
from ..scalars import TOLERANCE
from ..steps import Slot, Step, Steps
from ..symbols import Combination

if TYPE_CHECKING:
    from sympy import Poly
    from sympy.polys.matrices import DomainMatrix

Matrix = tuple[tuple[Fraction, ...], ...]
"""A matrix as a tuple of its rows."""


@dataclass(frozen=True)
class Pole:
    """A root of the minimal polynomial of A, with its multiplicity there."""

    value: complex
    multiplicity: int


@dataclass(frozen=True)
class LinearSystem:
    """next = A state + B answers, query = C state + D answers, state_0 = start x, output = read state.

    Shapes for n state tensors and m calls of oracles in a step: A (n, n), B (n, m), C (m, n), D (m, m),
    start (n, inputs), read (1, n). The answers are those of the gradients, and of the known maps.
    """

    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix
    start: Matrix
    read: Matrix
    exact: bool
    """False where an irrational coefficient was approximated."""

    @property
    def size(self) -> int:
        """The number of tensors that the state holds."""
        return len(self.A)

    @property
    def exact_matrices(self) -> tuple[DomainMatrix, DomainMatrix, DomainMatrix, DomainMatrix]:
        """A, B, C and D as matrices of sympy."""
        return exact_matrix(self.A), exact_matrix(self.B), exact_matrix(self.C), exact_matrix(self.D)

    @cached_property
    def minimal(self) -> LinearSystem:
        """The part of the state that the input and the answers reach and that a query or the output sees."""
        A, B, C, _ = self.exact_matrices
        start, read = exact_matrix(self.start), exact_matrix(self.read)
        # Columns of P span what is reached; then rows of Q span what of it is seen.
        P = invariant_rows(start.hstack(B).transpose(), A.transpose()).transpose()
        A, B, start = solve(P, A * P), solve(P, B), solve(P, start)
        C, read = C * P, read * P
        Q = invariant_rows(C.vstack(read), A)
        A = solve(Q.transpose(), (Q * A).transpose()).transpose()
        C, read = (solve(Q.transpose(), X.transpose()).transpose() for X in (C, read))
        return LinearSystem(
            fractions(A), fractions(Q * B), fractions(C), self.D, fractions(Q * start), fractions(read), self.exact
        )

    @cached_property
    def poles(self) -> tuple[Pole, ...]:
        """The poles of this system, largest modulus first; take them of the `minimal` one."""
        from sympy import Poly, Symbol
        from sympy.polys.matrices import DomainMatrix

        A = exact_matrix(self.A)
        # The minimal polynomial is the first linear dependence among the powers of A.
        powers = [DomainMatrix.eye(self.size, A.domain)]
        while not (dependence := stacked(powers).transpose().nullspace()).shape[0]:
            powers.append(powers[-1] * A)
        polynomial = Poly(list(reversed(dependence.to_list()[0])), Symbol("z"), domain="QQ")
        roots = ((r, times) for factor, times in polynomial.sqf_list()[1] for r in factor.nroots(n=30, maxsteps=200))
        poles = [Pole(complex(root), times) for root, times in roots]
        return tuple(sorted(poles, key=lambda pole: (-abs(pole.value), -pole.value.real, pole.value.imag)))

    @cached_property
    def multistep(self) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None:
        """(rho, sigma) with rho(E) query = sigma(E) T for the residual binding T = -gradient, E the shift.

        Coefficients from the highest power down, without common factor, rho monic. None with several calls
        of oracles in a step. (facts of linear multistep methods: Hairer, Norsett & Wanner, III.2-III.3)
        """
        if len(self.B[0]) != 1:
            return None
        from sympy import Poly, Symbol

        z = Symbol("z")
        A, B, C, _ = self.exact_matrices
        rho = Poly(A.charpoly(), z, domain="QQ")
        # C adj(zI - A) B = det(zI - A + BC) - det(zI - A)
        change = Poly((A - B * C).charpoly(), z, domain="QQ") - rho
        sigma = -(change + rho * Poly([rational(self.D[0][0])], z, domain="QQ"))
        if not sigma.is_zero:
            common = rho.gcd(sigma)
            rho, sigma = rho.quo(common), sigma.quo(common)
        leading = rho.LC()
        return _coefficients(rho.quo_ground(leading)), _coefficients(sigma.quo_ground(leading))


def linear_system(algorithm: Algorithm, k: int = 0) -> LinearSystem | None:
    """The linear system of step k; None where the state grows, or the step asks nothing."""
    steps = Steps(algorithm)
    step = None if steps.grows else steps.alone(k)
    return system_of(steps, step) if step is not None and step.answers else None


def system_of(steps: Steps, step: Step) -> LinearSystem | None:
    """The linear system of one of the steps of an algorithm; None where the state grows."""
    size = len(steps.start)
    if steps.grows or len(step.after) != size:
        return None
    slots = [Slot(i) for i in range(size)]
    output = steps.read(0)
    return LinearSystem(
        A=_rows(step.after, slots),
        B=_rows(step.after, step.answers),
        C=_rows(step.points, slots),
        D=_rows(step.points, step.answers),
        start=_rows(steps.start, input_atoms(steps.algorithm)),
        read=_rows([output], slots),
        exact=step.exact and all(c.exact for c in (*steps.start, output)),
    )


def over_a_period(systems: Sequence[LinearSystem]) -> LinearSystem:
    """The steps of several systems after one another as one step, which asks all their queries."""
    first = systems[0]
    A, B, C, D = (exact_matrix(m) for m in (_identity(first.size), ((),) * first.size, (), ()))
    for system in systems:
        A_step, B_step, C_step, D_step = system.exact_matrices
        if not system.D:  # a step that asks nothing
            A, B = A_step * A, A_step * B if B.shape[1] else B
            continue
        below = (C_step * B).hstack(D_step) if B.shape[1] else D_step
        above = D.hstack(D.zeros((D.shape[0], D_step.shape[1]), D.domain)) if D.shape[0] else D
        C, D = (C.vstack(C_step * A), above.vstack(below)) if D.shape[0] else (C_step * A, below)
        A, B = A_step * A, (A_step * B).hstack(B_step) if B.shape[1] else B_step
    exact = all(system.exact for system in systems)
    return LinearSystem(fractions(A), fractions(B), fractions(C), fractions(D), first.start, first.read, exact)


def _identity(size: int) -> Matrix:
    return tuple(tuple(Fraction(i == j) for j in range(size)) for i in range(size))


def _rows(combinations: Sequence[Combination], atoms: Sequence[Any]) -> Matrix:
    return tuple(tuple(c.coefficient(atom).value for atom in atoms) for c in combinations)


def _coefficients(polynomial: Poly) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(c.p), int(c.q)) for c in polynomial.all_coeffs())


def is_root_bounded(poles: Sequence[Pole]) -> bool:
    """The root condition: poles within the unit disc, those on the circle simple."""
    return all(
        abs(pole.value) <= 1 - TOLERANCE or (abs(pole.value) <= 1 + TOLERANCE and pole.multiplicity == 1)
        for pole in poles
    )


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
    while (larger := row_basis(basis.vstack(basis * A))).shape[0] > basis.shape[0]:
        basis = larger
    return basis


def row_basis(rows: DomainMatrix) -> DomainMatrix:
    """A basis, as rows, of the row space of a matrix."""
    reduced, pivot_columns = rows.to_dense().rref()
    return reduced.extract(list(range(len(pivot_columns))), list(range(rows.shape[1])))


def solve(P: DomainMatrix, X: DomainMatrix) -> DomainMatrix:
    """The Y with P Y = X, where the columns of P are independent and span those of X."""
    return (P.transpose() * P).inv() * P.transpose() * X
