"""The kernel in floating point: the same combinations as an array, for long depths and for fitting."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import accumulate
from typing import Any, cast

import numpy as np

from ...algorithms import Algorithm
from ..oracles import Answer, input_atoms
from ..steps import Slot, Steps, Terms


def response(algorithm: Algorithm, depth: int) -> np.ndarray:
    """The responses of every query, and last of the output, to the input and to the answers of the gradients.

    (queries + 1, 1 + queries): column 0 is the input, column 1 + j the answer to query j; a second input is zero. The
    algorithm's step runs unchanged on coordinate vectors, so memory may grow and oracles may be several.
    """
    algorithm, calls = algorithm.in_floats(), 0

    def count(point: Any, step_size: Any = None) -> float:
        nonlocal calls
        calls += 1
        return 0.0

    _last_state(algorithm, depth, 0.0, count)
    size = 1 + calls
    points: list[np.ndarray] = []

    def answer(point: Any, step_size: Any = None) -> np.ndarray:
        unit = np.zeros(size)
        unit[1 + len(points)] = 1.0
        point = np.asarray(point) if step_size is None else point - step_size * unit
        points.append(point)
        return unit if step_size is None else point

    last = _last_state(algorithm, depth, np.eye(1, size)[0], answer)
    # A step with fractions of its own makes arrays of objects.
    return np.stack([*points, algorithm.read(last)]).astype(float)


def _last_state(algorithm: Algorithm, depth: int, x: Any, oracle: Callable[..., Any]) -> Any:
    """The state after `depth` steps from an input, where every oracle is the same function."""
    state = algorithm.start_alone(x)
    for k in range(depth):
        state = algorithm.step(state, *[oracle] * len(algorithm.oracles), k)
    return state


def gains(algorithm: Algorithm, depth: int) -> np.ndarray:
    """The gains by size, (queries,): how strongly each answer reaches the output."""
    return np.abs(response(algorithm, depth)[-1, 1:])


def responses(steps: Steps, depth: int) -> Iterator[np.ndarray]:
    """The rows of `response` one after another, of all inputs: (inputs + queries,) each, the output's last."""
    inputs = input_atoms(steps.algorithm)
    places = [len(inputs) + i for i in accumulate((len(steps[k].answers) for k in range(depth)), initial=0)]
    unit = np.eye(len(inputs), places[-1])
    start = [[(atom, float(c)) for atom, c in leaf.terms.items()] for leaf in steps.start]
    state = [sum((factor * unit[inputs.index(atom)] for atom, factor in terms), 0 * unit[0]) for terms in start]

    def row(terms: Terms, place: int, answers: Sequence[Answer]) -> np.ndarray:
        total = np.zeros(places[-1])
        for atom, factor in terms:
            if isinstance(atom, Slot):
                total += factor * state[atom.place]
            else:
                total[place + answers.index(atom)] += factor
        return total

    for k in range(depth):
        points, after = steps[k].floats
        for terms in points:
            yield row(terms, places[k], steps[k].answers)
        state = [
            state[terms[0][0].place]
            if len(terms) == 1 and terms[0][1] == 1 and isinstance(terms[0][0], Slot)
            else row(terms, places[k], steps[k].answers)
            for terms in after
        ]
    yield row([(atom, float(c)) for atom, c in steps.read(depth).terms.items()], places[-1], ())


def growth(steps: Steps, depths: Sequence[int]) -> list[float]:
    """The largest response of a query, within each of several depths, or of the output of the last, to one answer."""
    inputs = len(steps.algorithm.inputs)
    rows = responses(steps, max(depths))
    largest, by_depth = 0.0, []
    for k in range(max(depths)):
        for _ in steps[k].answers:
            largest = max(largest, float(np.abs(next(rows)[inputs:]).max()))
        by_depth.append(largest)
    by_depth[-1] = max(largest, float(np.abs(next(rows)[inputs:]).max()))
    return [by_depth[depth - 1] for depth in depths]


def smallest_gain(steps: Steps, depth: int) -> float:
    """The least of the gains, by size, of the answers of a network of some depth."""
    of_state = {atom: float(c) for atom, c in steps.read(depth).terms.items()}
    smallest = math.inf
    for k in reversed(range(depth)):
        before: dict[Hashable, float] = dict.fromkeys(steps[k].answers, 0.0)
        after = steps[k].floats[1]
        for slot, c in of_state.items():
            for atom, factor in after[cast(Slot, slot).place]:
                before[atom] = before.get(atom, 0.0) + c * factor
        smallest = min([smallest, *(abs(before.pop(answer)) for answer in steps[k].answers)])
        of_state = before
    return smallest


def block_gains(algorithm: Algorithm, depth: int) -> np.ndarray:
    """How strongly each block reaches the output, (layers, oracles): what a block answers in one step adds up first."""
    callers: list[tuple[int, int]] = []
    state = algorithm.start_alone(0.0)
    for k in range(depth):

        def asking(oracle: int, k: int = k) -> Callable[..., float]:
            def answer(point: Any, step_size: Any = None) -> float:
                callers.append((k, oracle))
                return 0.0

            return answer

        state = algorithm.step(state, *map(asking, range(len(algorithm.oracles))), k)
    algorithm.read(state)
    sums = np.zeros((depth, len(algorithm.oracles)))
    for block, gain in zip(callers, response(algorithm, depth)[-1, 1:], strict=True):
        sums[block] += gain
    return np.abs(sums)
