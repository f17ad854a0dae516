"""Two algorithms side by side: which of their queries correspond, and the first in which they differ."""

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...algorithms import Algorithm, is_map
from ..dynamics.exact import Exact
from ..dynamics.response import responses
from ..oracles import Answer, input_atoms
from ..scalars import TOLERANCE, Number
from ..steps import Slot, Step, Steps
from ..symbols import Combination


@dataclass(frozen=True)
class Alignment:
    """The queries of two algorithms in pairs, each by its step and its place among the calls of the step.

    Oracles correspond by their place in the signature: their names, and the order they are asked in, may differ.
    """

    first: Steps
    second: Steps
    depth: int
    pairs: list[tuple[tuple[int, int], int]]
    """For each query of the first one its step and call, and the call of the second one in the same step."""

    @staticmethod
    def of(first: Algorithm, second: Algorithm, a: Steps, b: Steps, depth: int) -> "Alignment | None":
        """The alignment of two algorithms over some layers; None where their steps ask other oracles."""
        if interface(first) != interface(second):
            return None
        pairs = []
        for k in range(depth):
            places, others = _places(a[k], first.oracles), _places(b[k], second.oracles)
            if places.keys() != others.keys():
                return None
            pairs += [((k, call), others[place]) for place, call in places.items()]
        return Alignment(a, b, depth, pairs)

    def atoms(self, depth: int) -> dict[Hashable, Hashable]:
        """The atom of the first algorithm for each of the second one's, in the first layers."""
        inputs = (input_atoms(steps.algorithm) for steps in (self.second, self.first))
        atoms: dict[Hashable, Hashable] = dict(zip(*inputs, strict=True))
        for (k, call), other in self.pairs:
            if k < depth:
                answers = self.second[k].answers[other], self.first[k].answers[call]
                atoms[answers[0]._replace(layer=k)] = answers[1]._replace(layer=k)
        return atoms

    @property
    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """The responses of both, (queries + 1, inputs + queries), those of the second in the first one's order."""
        a, b = (np.stack(list(responses(steps, self.depth))) for steps in (self.first, self.second))
        begins = np.cumsum([0, *(len(self.second[k].answers) for k in range(self.depth))])
        order = [int(begins[k]) + other for (k, _), other in self.pairs]
        inputs = len(self.first.algorithm.inputs)
        return a, b[np.ix_([*order, len(order)], [*range(inputs), *(inputs + i for i in order)])]


def interface(algorithm: Algorithm) -> tuple[int, tuple[bool, ...]]:
    """The number of inputs that an algorithm takes, and of each oracle whether it is a known map."""
    return len(algorithm.inputs), tuple(map(is_map, algorithm.oracles))


def _places(step: Step, oracles: tuple[str, ...]) -> dict[tuple[int, int], int]:
    return {(oracles.index(answer.oracle), answer.call): i for i, answer in enumerate(step.answers)}


def first_difference(alignment: Alignment, exact: bool, scale: Number | None = None) -> int | None:
    """The first query in which two algorithms differ, their number if it is the output alone; None if none does.

    The blocks of the second one count `scale` times. Exact numbers have to be equal, others agree to 1e-9 of the
    largest coefficient that the same answer has anywhere.
    """
    scale = Number.of(1) if scale is None else scale
    if not exact:
        return _in_floats(alignment, float(scale))
    a, b = alignment.first, alignment.second
    if any(len(steps[k].after) != len(steps.start) for steps in (a, b) for k in range(alignment.depth)):
        return _by_kernels(alignment, scale)
    return _by_states(alignment, scale)


def _in_floats(alignment: Alignment, scale: float) -> int | None:
    a, b = alignment.matrices
    b[:, len(alignment.first.algorithm.inputs) :] *= scale
    sizes = np.maximum(np.abs(a), np.abs(b)).max(axis=0)
    different = np.flatnonzero((np.abs(a - b) > TOLERANCE * sizes).any(axis=1))
    return int(different[0]) if different.size else None


def _by_kernels(alignment: Alignment, scale: Number) -> int | None:
    """What `first_difference` gives, by kernels written out: their size is the square of the depth."""
    atoms = alignment.atoms(alignment.depth)

    def scaled(combination: Combination) -> Combination:
        terms = combination.terms.items()
        return Combination({atoms.get(atom, atom): c * scale if isinstance(atom, Answer) else c for atom, c in terms})

    a, b, depth = alignment.first, alignment.second, alignment.depth
    for index, ((k, call), other) in enumerate(alignment.pairs):
        if not a.point(k, call).same(scaled(b.point(k, other))):
            return index
    same = a.traced(a.read(depth), depth).same(scaled(b.traced(b.read(depth), depth)))
    return None if same else len(alignment.pairs)


def _by_states(alignment: Alignment, scale: Number) -> int | None:
    """What `first_difference` gives, by states of constant size, at a cost that is linear in depth.

    Both algorithms run side by side on the pair of their states. What inputs and answers can make of it is a space of
    few dimensions; the queries are the same if they are the same on all of it.
    """
    a, b, factor = alignment.first, alignment.second, scale.value
    sizes = len(a.start), len(b.start)
    inputs = zip(input_atoms(a.algorithm), input_atoms(b.algorithm), strict=True)
    reached = Exact.of(
        [[*(c.coefficient(x).value for c in a.start), *(c.coefficient(y).value for c in b.start)] for x, y in inputs]
    ).reduced[0]
    known: dict[tuple[int, int, Exact], tuple[int | None, Exact]] = {}
    index = 0
    calls = iter(alignment.pairs)
    for k in range(alignment.depth):
        order = [next(calls)[1] for _ in a[k].answers]
        situation = id(a[k]), id(b[k]), reached
        if situation not in known:
            known[situation] = _side_by_side(a[k], b[k], order, factor, sizes, reached)
        different, reached = known[situation]
        if different is not None:
            return index + different
        index += len(order)
    output = _row(a.read(alignment.depth), sizes[0]), _row(b.read(alignment.depth), sizes[1], Fraction(-1))
    return None if (reached @ Exact.of([[*output[0], *output[1]]]).T).is_zero else index


def _side_by_side(
    a: Step, b: Step, order: list[int], factor: Fraction, sizes: tuple[int, int], reached: Exact
) -> tuple[int | None, Exact]:
    """The first call of a step in which two algorithms differ, and what their states reach after it."""
    for call, other in enumerate(order):
        row = Exact.of([[*_row(a.points[call], sizes[0]), *_row(b.points[other], sizes[1], Fraction(-1))]])
        own = zip(a.answers, (b.answers[i] for i in order), strict=True)
        shares = ((a.points[call].coefficient(x).value, b.points[other].coefficient(y).value) for x, y in own)
        if not (reached @ row.T).is_zero or any(left != factor * right for left, right in shares):
            return call, reached
    zeros = [Fraction(0)] * sizes[0], [Fraction(0)] * sizes[1]
    step = Exact.of(
        [
            *([*_row(leaf, sizes[0]), *zeros[1]] for leaf in a.after),
            *([*zeros[0], *_row(leaf, sizes[1])] for leaf in b.after),
        ]
    )
    pushes = [
        [c.coefficient(x).value for c in a.after] + [factor * c.coefficient(b.answers[other]).value for c in b.after]
        for x, other in zip(a.answers, order, strict=True)
    ]
    return None, (reached @ step.T).above(Exact.of(pushes, sum(sizes))).reduced[0]


def _row(combination: Combination, size: int, sign: Fraction = Fraction(1)) -> list[Fraction]:
    return [sign * combination.coefficient(Slot(i)).value for i in range(size)]
