"""Pulses: what a block answers in consecutive layers for the state to move, and then rest, by exactly one step."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..._support.errors import MinimandError, unknown_name
from ...algorithms import Algorithm, as_algorithm, is_map
from ..kernel import AlgorithmLike, kernel
from ..scalars import TOLERANCE
from ..splitting import Splitting

LONGEST = 6
"""The number of layers in which pulses are looked for; the shortest that do are taken."""

_HORIZON = 40  # steps after the pulses in which the state has to rest
_STEPS = (0, 1, 2, 3, 8)  # at which a certificate looks where coefficients vary


@dataclass(frozen=True)
class Turn:
    """When a block answers within a layer: the oracle it answers, the steps of a layer, its share of each of them."""

    oracle: str
    steps: int
    shares: Mapping[int, float]


def pulses(algorithm: AlgorithmLike, step: int = 0, oracle: str | None = None) -> list[float] | None:
    """The shortest weights a_0 ... a_(M-1) by which consecutive blocks make one exact coupling step.

    If the state rests at z before `step`, and the blocks of the steps `step` + i answer a_i h(z), where h reads and
    writes different channels, then from step `step` + M on the state rests at z + h(z): every later query, and the
    output, is that. The answers are those of blocks T = -gradient; other oracles answer 0, which
    leaves a prox where it is.

    Args:
        algorithm: an algorithm, its class or its name; coefficients have their current values.
        step: the step of the first pulse.
        oracle: the oracle that answers; by default the first.

    Returns:
        The weights; None where there are none of at most `LONGEST` layers, and where a part of the state is
        normalized. They are fitted in floating point, over the steps that follow.
    """
    algorithm = as_algorithm(algorithm)
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise MinimandError(f"step is {step!r}; expected 0, 1, 2 ...")
    if oracle is not None and oracle not in algorithm.oracles:
        raise unknown_name(f"oracle of {algorithm}", oracle, algorithm.oracles)
    first = next((name for name in algorithm.oracles if not is_map(name)), algorithm.oracles[0])
    kernel(algorithm, 1)  # raises an error where the step is not linear
    return first_pulses(algorithm, step, Turn(oracle or first, 1, {0: 1.0}))


def turns(algorithm: Algorithm, splitting: Splitting | None) -> dict[str, Turn]:
    """When attention and the map of a layer answer: steps in turns, or each for an oracle of its own.

    Where a step asks one oracle of a block that is not cut, both have the same turn.
    """
    oracles = [oracle for oracle in algorithm.oracles if not is_map(oracle)]
    if len(oracles) == 2:
        return {part: Turn(oracle, 1, {0: 1.0}) for part, oracle in zip(("attention", "map"), oracles, strict=True)}
    whole = {0: 1.0}
    steps, attention, map = {
        "lie_trotter": (2, {0: 1.0}, {1: 1.0}),
        "strang": (3, {0: 0.5, 2: 0.5}, {1: 1.0}),
    }.get(splitting or "whole", (1, whole, whole))
    return {"attention": Turn(oracles[0], steps, attention), "map": Turn(oracles[0], steps, map)}


def first_pulses(algorithm: Algorithm, step: int, turn: Turn, last: int | None = None) -> list[float] | None:
    """The shortest pulses of a block that answers in turns, from a step at which a layer begins.

    Of an algorithm that has no more than `last` steps they have to end, and the state to rest, within these.
    """
    if any(map(is_map, algorithm.oracles)):
        return None
    longest = LONGEST if last is None else min(LONGEST, (last - step) // turn.steps)
    horizon = _HORIZON if last is None else min(_HORIZON, last - step - turn.steps * longest)
    if longest < 1:
        return None
    later = responses(algorithm, turn, step, longest, horizon)
    for length in range(1, longest + 1):
        weights, residual = later.weights(0, length)
        if residual < TOLERANCE:
            return [_simple(weight) for weight in weights.tolist()]
    return None


def _simple(weight: float) -> float:
    """The simple fraction that a number differs from by rounding alone, or the number."""
    fraction = float(Fraction(weight).limit_denominator(1000))
    return fraction if abs(fraction - weight) < 1e-12 else weight


def lasting_pulses(algorithm: Algorithm, turn: Turn, depth: int, last: int | None = None) -> list[float] | None:
    """The longest of the pulses at several steps of a network of `depth` layers; None if one of these has none.

    No step from `last` on is asked for, where there is none.
    """
    longest: list[float] = []
    for layer in _STEPS:
        if layer and layer >= depth:
            break
        weights = first_pulses(algorithm, layer * turn.steps, turn, last)
        if weights is None:
            return None
        longest = max(longest, weights, key=len)
    return longest


@dataclass(frozen=True)
class Responses:
    """How far the block's answers in each layer move the queries, and the outputs of networks that end there."""

    turn: Turn
    begins: int
    steps: np.ndarray
    """(rows,): the number of steps before each query or output."""
    at_rest: np.ndarray
    """(rows,): the share of the input in each."""
    moved: np.ndarray
    """(rows, layers): the share of the answer of each layer in each."""

    def weights(self, layer: int, length: int) -> tuple[np.ndarray, float]:
        """The weights of pulses from a layer on that fit best, and by how much they miss, relative to the terms."""
        rows = self.steps >= self.begins + self.turn.steps * (layer + length)
        shares = self.moved[rows, layer : layer + length]
        size = np.maximum(1.0, np.abs(shares).max(axis=1))
        weights = np.linalg.lstsq(shares / size[:, None], 1 / size, rcond=None)[0]
        missed = np.abs(shares @ weights - 1) / size
        return weights, float(max(missed.max(), np.abs(self.at_rest - 1).max()))


def responses(algorithm: Algorithm, turn: Turn, begins: int, layers: int, horizon: int = 0) -> Responses:
    """The responses to the answers of `layers` layers from a step on, over so many more steps."""
    size = 1 + layers
    steps: list[int] = []
    points: list[np.ndarray] = []

    def note(k: int, point: Any) -> None:
        steps.append(k)
        points.append(np.asarray(point))

    def oracles(k: int) -> Iterator[Callable[..., Any]]:
        layer, turn_of_step = divmod(k - begins, turn.steps)
        unit = np.zeros(size)
        if 0 <= layer < layers:
            unit[1 + layer] = -turn.shares.get(turn_of_step, 0.0)

        for name in algorithm.oracles:

            def answer(point: Any, step_size: Any = None, name: str = name) -> Any:
                own = unit if name == turn.oracle else np.zeros(size)
                # The new point p = v + s T(p) of a prox, whose T reads nothing that it moves.
                note(k, point if step_size is None else point - step_size * own)
                return own if step_size is None else points[-1]

            yield answer

    state = algorithm.start_alone(np.eye(1, size)[0])
    for k in range(begins + turn.steps * layers + horizon):
        state = algorithm.step(state, *oracles(k), k)
        if k >= begins:
            note(k + 1, algorithm.read(state))
    values = np.stack(points).astype(float)  # a step with fractions of its own makes arrays of objects
    return Responses(turn, begins, np.array(steps), values[:, 0], values[:, 1:])
