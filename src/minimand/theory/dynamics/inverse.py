"""The inverse of an algorithm's steps: whether a state follows from the next one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal

from ...algorithms import Algorithm, is_map
from ..kernel import Binding, kernel
from .linear_system import (
    LinearSystem,
    exact_matrix,
    grows,
    independent_columns,
    invariant_rows,
    linear_system,
    row_basis,
)
from .stability import Tail

if TYPE_CHECKING:
    from sympy.polys.matrices import DomainMatrix


@dataclass(frozen=True)
class Inverse:
    """The way in which a state follows from the next one.

    closed form: by evaluating blocks and maps, whatever they are. fixed point: by iterating, if every block has a
    Lipschitz constant below `lipschitz`. none: not without inverting a block.
    """

    kind: Literal["closed form", "fixed point", "none"]
    lipschitz: float | None = None
    stored: tuple[int, ...] = ()
    """The steps that lose part of their state: to run backwards through them it has to be stored."""
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.kind}, if Lip(T) < {self.lipschitz:.4g}" if self.lipschitz is not None else self.kind
        if self.stored:
            text += f"; the state before step {', '.join(map(str, self.stored))} must be kept"
        return text + (f" ({self.reason})" if self.reason else "")


def inverse(algorithm: Algorithm, depth: int, binding: Binding, constant: Tail | None) -> Inverse:
    """The inverse of the steps of the network, on the minimal realization where they become constant."""
    head = depth if constant is None else min(constant.begins, depth)
    systems = [linear_system(algorithm, k) for k in range(head)]
    if None in systems:
        return Inverse("none", reason="memory grows with depth" if grows(algorithm) else "a step asks nothing")
    answers = [query.answer for query in kernel(algorithm, 1).queries]
    maps = frozenset(i for i, answer in enumerate(answers) if is_map(answer.oracle))
    steps: list[tuple[Inverse, int]] = []
    if head > 0:
        after = linear_system(algorithm, head)
        steps = [(step, 1) for step in _head([s for s in systems if s is not None], after, binding, maps)]
    if constant is not None and head < depth:
        from sympy.polys.matrices import DomainMatrix

        A, B, C, D = constant.system.exact_matrices
        everything = DomainMatrix.eye(constant.system.size, A.domain)
        steps.append((_step(A, B, C, D, everything, binding, maps), depth - head))
    lost = tuple(k for k, (step, _) in enumerate(steps) if step.kind == "none")
    invertible = [step for step, _ in steps if step.kind != "none"]
    if 2 * sum(steps[k][1] for k in lost) >= depth or not invertible:
        return steps[lost[0]][0]
    bounds = [step.lipschitz for step in invertible if step.lipschitz is not None]
    return Inverse("fixed point" if bounds else "closed form", min(bounds, default=None), lost)


def _head(
    systems: list[LinearSystem], after: LinearSystem | None, binding: Binding, maps: frozenset[int]
) -> list[Inverse]:
    """The inverse of each step on the part of the state that is reached before it and still seen after it."""
    last = systems[-1] if after is None else after
    # Rows: what of the state the later queries and the output see; after the last step, what the next system does.
    seen = [invariant_rows(exact_matrix(last.C).vstack(exact_matrix(last.read)), exact_matrix(last.A))]
    for system in reversed(systems):
        seen.insert(0, row_basis(exact_matrix(system.C).vstack(seen[0] * exact_matrix(system.A))))
    inverses = []
    reached = exact_matrix(systems[0].start)
    for k, system in enumerate(systems):
        A, B, C, D = system.exact_matrices
        rows = row_basis(seen[k] * reached)
        distinguished = reached * rows.transpose() * (rows * rows.transpose()).to_dense().inv()
        inverses.append(_step(seen[k + 1] * A, seen[k + 1] * B, C, D, distinguished, binding, maps))
        reached = independent_columns((A * reached).hstack(B))
    return inverses


def _step(
    A: DomainMatrix,
    B: DomainMatrix,
    C: DomainMatrix,
    D: DomainMatrix,
    reached: DomainMatrix,
    binding: Binding,
    maps: frozenset[int],
) -> Inverse:
    """Invert next = A P u + B a, where the state P u is known to lie in the columns of P, `reached`.

    `maps` are the answers that known maps give.

    The solutions (u, a) form a plane with directions N = (N_u, N_a); on it the queries move with the answers
    by K = (C P N_u + D N_a) N_a^-1, and a(query) closes the loop: query = known + K a(query).
    """
    n, m = reached.shape[1], B.shape[1]
    N = (A * reached).hstack(B).to_dense().nullspace().transpose()
    free = N.shape[1]
    if free == 0:
        return Inverse("closed form")
    N_u, N_a = (N.extract(rows, list(range(free))).to_dense() for rows in (list(range(n)), list(range(n, n + m))))
    if free > m or N_a.rank() < free:
        moved = C * reached * N_u + D * N_a
        return Inverse("none", reason="part of the state is lost" if moved.is_zero_matrix else _inverted(maps))
    left_inverse = (N_a.transpose() * N_a).inv() * N_a.transpose()
    K = (C * reached * N_u + D * N_a) * left_inverse
    return _loop(K.to_dense(), binding, maps)


def _inverted(maps: frozenset[int]) -> str:
    return f"{'the normalization' if maps else 'T'} itself would have to be inverted"


def _loop(K: DomainMatrix, binding: Binding, maps: frozenset[int]) -> Inverse:
    """The solution of query = known + K a(query): one query after the other where K is triangular, else all at once."""
    rows = K.to_list()
    m = len(rows)
    for p in permutations(range(m)):
        if all(rows[p[i]][p[j]] == 0 for i in range(m) for j in range(i + 1, m)):
            loops = [((i,), K.extract([i], [i])) for i in range(m)]
            break
    else:
        loops = [(tuple(range(m)), K)]
    loops = [(answers, loop) for answers, loop in loops if not loop.is_zero_matrix]
    if not loops:
        return Inverse("closed form")
    if any(not maps.isdisjoint(answers) for answers, _ in loops):
        return Inverse("none", reason=_inverted(maps))
    bounds = [_contraction(loop, binding) for _, loop in loops]
    if None in bounds:
        return Inverse("none", reason=_inverted(frozenset()))
    return Inverse("fixed point", min(bound for bound in bounds if bound is not None))


def _contraction(K: DomainMatrix, binding: Binding) -> float | None:
    """The Lipschitz constant of T below which iterating contracts; None where the loop cannot be solved for query."""
    if binding == "operator":  # a = query - T(query): (I - K) query = known - K T(query)
        remainder = K.eye(K.shape, K.domain).to_dense() - K.to_dense()
        if remainder.rank() < K.shape[0]:
            return None
        K = remainder.inv() * K.to_dense()
    return 1 / max(sum(abs(float(entry)) for entry in row) for row in K.to_list())
