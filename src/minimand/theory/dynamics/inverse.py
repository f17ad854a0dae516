"""The inverse of an algorithm's steps: whether a state follows from the next one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np

from ...algorithms import is_map
from ..oracles import Binding
from ..steps import Steps
from .exact import Exact
from .linear_system import LinearSystem, system_of
from .stability import Tail

_SHOWN = 2  # the least growth of rounding that is named, in times
_LARGEST = 700  # exp of more is no float
_FORGOTTEN = 1e-9  # poles up to here are 0 but for rounding


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
    growth: float = 1.0
    """The factor by which rounding of a difference of states grows, at zero answers, over all steps run backwards."""

    def __str__(self) -> str:
        text = f"{self.kind}, if Lip(T) < {self.lipschitz:.4g}" if self.lipschitz is not None else self.kind
        if self.stored:
            text += f"; the state before step {', '.join(map(str, self.stored))} must be kept"
        if self.growth >= _SHOWN:
            text += f"; run backwards over these layers, rounding grows {self.growth:.2g} times"
        return text + (f" ({self.reason})" if self.reason else "")


def inverse(steps: Steps, depth: int, binding: Binding, constant: Tail | None) -> Inverse:
    """The inverse of the steps of the network, on the minimal realization where they become constant."""
    settled = constant is not None and constant.period == 1
    head = min(constant.begins, depth) if constant is not None and settled else depth
    systems = [system_of(steps, steps[k]) for k in range(head)]
    if None in systems or steps.grows:
        return Inverse("none", reason="memory grows with depth")
    if not all(steps[k].answers for k in range(depth)):
        return Inverse("none", reason="a step asks nothing")
    answers = steps[0].answers
    maps = frozenset(i for i, answer in enumerate(answers) if is_map(answer.oracle))
    backwards: list[tuple[Inverse, int]] = []
    if head > 0:
        after = system_of(steps, steps[min(head, steps.reach(depth, depth + 1) - 1)])
        backwards = [(step, 1) for step in _head([s for s in systems if s is not None], after, binding, maps)]
    if constant is not None and settled and head < depth:
        everything = Exact.eye(constant.system.size)
        backwards.append((_step(*_matrices(constant.system), everything, binding, maps), depth - head))
    lost = tuple(k for k, (step, _) in enumerate(backwards) if step.kind == "none")
    invertible = [step for step, _ in backwards if step.kind != "none"]
    if 2 * sum(backwards[k][1] for k in lost) >= depth or not invertible:
        return backwards[lost[0]][0]
    bounds = [step.lipschitz for step in invertible if step.lipschitz is not None]
    if bounds:
        return Inverse("fixed point", min(bounds), lost)
    return Inverse("closed form", stored=lost, growth=_growth([s for s in systems if s is not None], constant, depth))


def _growth(systems: list[LinearSystem], constant: Tail | None, depth: int) -> float:
    """The largest factor by which all steps back multiply, from the poles of each; what a step forgets left out."""
    varying = systems if constant is None else systems[: constant.begins]
    known: dict[int, float] = {}
    total = 0.0
    for system in varying:
        if id(system) not in known:
            sizes = np.abs(np.linalg.eigvals(np.array(system.A, dtype=float)))
            known[id(system)] = -math.log(min([1.0, *sizes[sizes > _FORGOTTEN]]))
        total += known[id(system)]
    if constant is not None:
        sizes = [abs(pole.value) for pole in constant.system.poles if pole.value]
        total -= max(0, depth - constant.begins) // constant.period * math.log(min([1.0, *sizes]))
    return math.exp(min(total, _LARGEST))


def _matrices(system: LinearSystem) -> tuple[Exact, Exact, Exact, Exact]:
    size, calls = system.size, len(system.D)
    shapes = ((system.A, size), (system.B, calls), (system.C, size), (system.D, calls))
    A, B, C, D = (Exact.of(rows, columns) for rows, columns in shapes)
    return A, B, C, D


def _head(
    systems: list[LinearSystem], after: LinearSystem | None, binding: Binding, maps: frozenset[int]
) -> list[Inverse]:
    """The inverse of each step on the part of the state that is reached before it and still seen after it."""
    last = systems[-1] if after is None else after
    # Rows: what of the state the later queries and the output see; after the last step, what the next system does.
    visible = [_seen_for_ever(last)]
    for system in reversed(systems):
        A, _, C, _ = _matrices(system)
        visible.append(C.above(visible[-1] @ A).reduced[0])
    visible.reverse()
    inverses: list[Inverse] = []
    known: dict[Any, Inverse] = {}
    reached = Exact.of(systems[0].start).T.reduced[0].T
    for k, system in enumerate(systems):
        A, B, C, D = _matrices(system)
        situation = (system, visible[k], visible[k + 1], reached)
        if situation not in known:
            rows = (visible[k] @ reached).reduced[0]
            distinguished = reached @ rows.T @ (rows @ rows.T).inverse
            known[situation] = _step(visible[k + 1] @ A, visible[k + 1] @ B, C, D, distinguished, binding, maps)
        inverses.append(known[situation])
        reached = (A @ reached).beside(B).T.reduced[0].T
    return inverses


def _seen_for_ever(system: LinearSystem) -> Exact:
    A, _, C, _ = _matrices(system)
    rows = C.above(Exact.of(system.read)).reduced[0]
    while len((more := rows.above(rows @ A).reduced[0]).rows) > len(rows.rows):
        rows = more
    return rows


def _step(A: Exact, B: Exact, C: Exact, D: Exact, reached: Exact, binding: Binding, maps: frozenset[int]) -> Inverse:
    """Invert next = A P u + B a, where the state P u is known to lie in the columns of P, `reached`.

    `maps` are the answers that known maps give.

    The solutions (u, a) form a plane with directions N = (N_u, N_a); on it the queries move with the answers
    by K = (C P N_u + D N_a) N_a^-1, and a(query) closes the loop: query = known + K a(query).
    """
    n, m = reached.columns, B.columns
    N = (A @ reached).beside(B).nullspace
    free = N.columns
    if free == 0:
        return Inverse("closed form")
    N_u, N_a = N.part(range(n)), N.part(range(n, n + m))
    moved = C @ reached @ N_u + D @ N_a
    if free > m or N_a.rank < free:
        return Inverse("none", reason="part of the state is lost" if moved.is_zero else _inverted(maps))
    return _loop(moved @ (N_a.T @ N_a).inverse @ N_a.T, binding, maps)


def _inverted(maps: frozenset[int]) -> str:
    return f"{'the normalization' if maps else 'T'} itself would have to be inverted"


def _loop(K: Exact, binding: Binding, maps: frozenset[int]) -> Inverse:
    """The solution of query = known + K a(query): one query after the other where K is triangular, else all at once."""
    m = K.columns
    for p in permutations(range(m)):
        if all(K.rows[p[i]][p[j]] == 0 for i in range(m) for j in range(i + 1, m)):
            loops = [((i,), Exact.of([[K.rows[i][i]]])) for i in range(m)]
            break
    else:
        loops = [(tuple(range(m)), K)]
    loops = [(answers, loop) for answers, loop in loops if not loop.is_zero]
    if not loops:
        return Inverse("closed form")
    if any(not maps.isdisjoint(answers) for answers, _ in loops):
        return Inverse("none", reason=_inverted(maps))
    bounds = [_contraction(loop, binding) for _, loop in loops]
    if None in bounds:
        return Inverse("none", reason=_inverted(frozenset()))
    return Inverse("fixed point", min(bound for bound in bounds if bound is not None))


def _contraction(K: Exact, binding: Binding) -> float | None:
    """The Lipschitz constant of T below which iterating contracts; None where the loop cannot be solved for query."""
    if binding == "operator":  # a = query - T(query): (I - K) query = known - K T(query)
        remainder = Exact.eye(K.columns) - K
        if remainder.rank < K.columns:
            return None
        K = remainder.inverse @ K
    return 1 / max(sum(abs(float(entry)) for entry in row) for row in K.rows)
