"""The kernel in floating point: the same combinations as an array, for long depths and for fitting."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...algorithms import Algorithm


def response(algorithm: Algorithm, depth: int) -> np.ndarray:
    """The responses of every query, and last of the output, to the input and to the answers of the gradients.

    (queries + 1, 1 + queries): column 0 is the input, column 1 + j the answer to query j; a second input is zero. The
    algorithm's step runs unchanged on coordinate vectors, so memory may grow and oracles may be several.
    """
    calls = 0

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
    return np.stack([*points, algorithm.read(last)])


def _last_state(algorithm: Algorithm, depth: int, x: Any, oracle: Callable[..., Any]) -> Any:
    """The state after `depth` steps from an input, where every oracle is the same function."""
    state = algorithm.start_alone(x)
    for k in range(depth):
        state = algorithm.step(state, *[oracle] * len(algorithm.oracles), k)
    return state


def gains(algorithm: Algorithm, depth: int) -> np.ndarray:
    """The gains by size, (queries,): how strongly each answer reaches the output."""
    return np.abs(response(algorithm, depth)[-1, 1:])


def growth(algorithm: Algorithm, depth: int) -> float:
    """The largest response of a query or of the output, within `depth` steps, to one answer."""
    return float(np.abs(response(algorithm, depth)[:, 1:]).max())


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
