"""Can the state be run backwards from the next one?"""

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal

from ..algorithms import Algorithm
from .kernel import Binding
from .linear_system import LinearSystem, domain, linear_system
from .stability import Tail

if TYPE_CHECKING:
    from sympy.polys.matrices import DomainMatrix

Kind = Literal["closed form", "fixed point", "none"]


@dataclass(frozen=True)
class Inverse:
    """How a state follows from the next one.

    closed form: by evaluating blocks, whatever they are. fixed point: by iterating, if every block has a
    Lipschitz constant below `lipschitz`. none: not without inverting a block.
    """

    kind: Kind
    lipschitz: float | None = None
    stored: tuple[int, ...] = ()
    """Steps that lose part of their state; it has to be kept to run backwards through them."""
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.kind}, if Lip(T) < {self.lipschitz:.4g}" if self.lipschitz is not None else self.kind
        if self.stored:
            text += f"; the state before step {', '.join(map(str, self.stored))} must be kept"
        return text + (f" ({self.reason})" if self.reason else "")


def inverse(algorithm: Algorithm, depth: int, binding: Binding, constant: Tail | None) -> Inverse:
    """The inverse of the steps of the network, on the minimal realization where they become constant."""
    head = depth if constant is None else min(constant.begins, depth)
    steps: list[Inverse] = []
    reached = None
    for k in range(head):
        system = linear_system(algorithm, k)
        if system is None:
            return Inverse("none", reason="memory grows with depth")
        reached = domain(system.start) if reached is None else reached
        steps.append(_step(system, reached, binding))
        reached = _independent((domain(system.A) * reached).hstack(domain(system.B)))
    if constant is not None and head < depth:
        from sympy.polys.matrices import DomainMatrix

        system = constant.system
        steps.append(_step(system, DomainMatrix.eye(system.size, domain(system.A).domain), binding))
    lost = tuple(k for k, found in enumerate(steps) if found.kind == "none")
    kept = [found for found in steps if found.kind != "none"]
    if 2 * len(lost) >= len(steps) or not kept:
        return steps[lost[0]]
    bounds = [found.lipschitz for found in kept if found.lipschitz is not None]
    return Inverse("fixed point" if bounds else "closed form", min(bounds, default=None), lost)


def _step(system: LinearSystem, reached: "DomainMatrix", binding: Binding) -> Inverse:
    """Invert next = A P u + B a, where the state P u is known to lie in the columns of P.

    The solutions (u, a) form a plane with directions N = (N_u, N_a); on it the queries move with the answers
    by K = (C P N_u + D N_a) N_a^-1, and a(query) closes the loop: query = known + K a(query).
    """
    A, B, C, D = (domain(M) for M in (system.A, system.B, system.C, system.D))
    n, m = reached.shape[1], B.shape[1]
    N = (A * reached).hstack(B).to_dense().nullspace().transpose()
    free = N.shape[1]
    if free == 0:
        return Inverse("closed form")
    N_u, N_a = (N.extract(rows, list(range(free))).to_dense() for rows in (list(range(n)), list(range(n, n + m))))
    if free > m or N_a.rank() < free:
        moved = C * reached * N_u + D * N_a
        why = "part of the state is lost" if moved.is_zero_matrix else "T itself would have to be inverted"
        return Inverse("none", reason=why)
    left_inverse = (N_a.transpose() * N_a).inv() * N_a.transpose()
    K = (C * reached * N_u + D * N_a) * left_inverse
    return _loop([[float(x) for x in row] for row in K.to_list()], binding)


def _loop(K: list[list[float]], binding: Binding) -> Inverse:
    m = len(K)
    for p in permutations(range(m)):
        if all(K[p[i]][p[j]] == 0 for i in range(m) for j in range(i + 1, m)):
            diagonal = [K[i][i] for i in range(m)]  # solve one query after the other
            break
    else:
        diagonal = [sum(abs(entry) for entry in row) for row in K]
    if not any(diagonal):
        return Inverse("closed form")
    if binding == "residual":
        return Inverse("fixed point", min(1 / abs(d) for d in diagonal if d))
    # a = query - T(query): (1 - d) query = known - d T(query)
    bounds = [abs(1 - d) / abs(d) for d in diagonal if d]
    if min(bounds) == 0:
        return Inverse("none", reason="T itself would have to be inverted")
    return Inverse("fixed point", min(bounds))


def _independent(columns: "DomainMatrix") -> "DomainMatrix":
    _, pivots = columns.to_dense().rref()
    return columns.extract(list(range(columns.shape[0])), list(pivots))
