"""What each answer of a residual network has to be replaced by, so that adding it to the stream is an algorithm's step.

The increment after step k is the next query less the last one, after the last step the output less it. The
algorithm runs on symbols: the stream as it is, the increments so far, and the answers; what it remembers is written by
increments or by answers, whichever takes fewer terms. So heavy ball's is answer + momentum times the last one.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...algorithms import Algorithm, leaves, rebuild
from ...theory.kernel import exactly
from ...theory.symbols import Combination
from .program import factor_of

_STREAM = "q"


class Increments:
    """The increments of an algorithm with one gradient a step, under the residual binding, for some layers."""

    def __init__(self, algorithm: Algorithm, layers: int) -> None:
        written = (_increments(exactly(algorithm), layers, solves) for solves in (False, True))
        self.combinations = min(written, key=lambda combinations: sum(map(_terms, combinations)))
        self._terms = [
            [(atom, factor_of(factor), factor.same(1)) for atom, factor in reversed(c.terms.items())]
            for c in self.combinations
        ]
        last_use = {atom: k for k, c in enumerate(self.combinations) for atom in c.terms}
        self._unread = [[atom for atom, last in last_use.items() if last == k] for k in range(layers)]
        self._read = set(last_use)

    def after(self, k: int, answer: Tensor, memory: dict[Any, Tensor], values: Mapping[str, tuple[Any, ...]]) -> Tensor:
        """The increment after the answer of layer k; earlier ones are in `memory`, which is brought up to date."""
        memory["answer", k] = answer
        increment: Tensor | None = None
        for atom, factor, is_one in self._terms[k]:
            term, value = memory[atom], factor(values)
            if increment is None:
                increment = term if is_one else term * value
            else:
                increment = increment + term if is_one else torch.add(increment, term * value)
        result = torch.zeros_like(answer) if increment is None else increment
        if ("increment", k) in self._read:
            memory["increment", k] = result
        if ("answer", k) not in self._read:
            del memory["answer", k]
        for atom in self._unread[k]:
            del memory[atom]
        return result


def _increments(algorithm: Algorithm, layers: int, solves: bool) -> list[Combination]:
    stream = Combination.atom(_STREAM)
    state = algorithm.start(stream)
    increments: list[Combination] = []
    for k in range(layers):
        answer = Combination.atom(("answer", k))
        points: list[Combination] = []

        def ask(point: Combination, points: list[Combination] = points, answer: Combination = answer) -> Combination:
            points.append(point)
            return -answer

        after = algorithm.step(state, ask, k)
        if k > 0:
            increments.append(points[0] - stream)
            rewritten = _rewritten(leaves(state), points[0], increments[-1], k - 1, solves)
            after = algorithm.step(rebuild(state, rewritten), ask, k)
        # What the step had to write for its query is the stream itself.
        surplus = points[-1] - stream
        state = rebuild(after, [min(leaf, leaf - surplus, key=_terms) for leaf in leaves(after)])
    return [*increments, algorithm.read(state) - stream]


def _terms(combination: Combination) -> int:
    return len(combination.terms)


def _rewritten(
    state: list[Combination], query: Combination, increment: Combination, k: int, solves: bool
) -> list[Combination]:
    """The state with the new stream, the query, as its atom; if `solves`, without the answer that led to it."""
    stream, step = Combination.atom(_STREAM), Combination.atom(("increment", k))
    newest: Hashable = ("answer", k)

    def moved(leaf: Combination) -> Combination:
        if leaf.same(query):
            return stream
        return leaf.substitute(lambda atom: stream - step if atom == _STREAM else None)

    plain = [moved(leaf) for leaf in state]
    factor = increment.coefficient(newest)
    if not solves or not factor.is_constant or factor.same(0):
        return plain
    rest = increment - factor * Combination.atom(newest)
    solved = (step - rest) / factor
    return [leaf.substitute(lambda atom: solved if atom == newest else None) for leaf in plain]
