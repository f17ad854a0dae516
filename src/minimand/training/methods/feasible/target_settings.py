"""The search for hidden targets that make every unit separable (Friesen & Domingos 2018, Algorithm 1, as recalled)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, product
from math import comb

import numpy as np

from ....theory.feasibility import METHODS, Separability, linear_programming

# Moves tried at a layer before its failure goes up, but for the top one; at the top, those without any progress before
# everything is drawn anew.
_TRIES, _PATIENCE = 4, 40
# Points whose labels are all tried to see which ones a unit can give.
_FEW = 10

Units = list[Separability]


class Spent(Exception):
    """The budget is."""


@dataclass
class TargetSettings:
    """Targets of all layers of a network of threshold units, which are searched."""

    points: np.ndarray
    """(N, d)."""
    outputs: np.ndarray
    """Targets of the output units (N, outputs), 1 or -1."""
    widths: Sequence[int]
    """Of the hidden layers."""
    values: Sequence[tuple[float, float]]
    """What their units give: low, high."""
    method: str
    budget: int
    draw: np.random.Generator
    steps: int = 0
    """Separability problems solved, and moves of targets tried."""
    settings: int = 0
    """Of hidden targets, all of which were tried; 0 if they were not."""
    nearest: tuple[int, Separability] | None = None
    """The output unit that failed, in the setting of the least loss."""
    _known: dict[tuple[bytes, bytes], Separability] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depth = len(self.widths) + 1
        self._limit = self.budget
        # By layer, from 1: units, and what they give as 1 and -1; 0 is the input.
        self.units: list[Units] = [[] for _ in range(self.depth + 1)]
        self.targets: list[np.ndarray] = [self.points, *[np.empty(0)] * (self.depth - 1), self.outputs]

    def impossible(self) -> tuple[int, Separability] | None:
        """An output unit that no hidden targets help, and why: equal samples contradict it, or nothing is hidden."""
        _, same = np.unique(self.points, axis=0, return_inverse=True)
        for j, t in enumerate(self.outputs.T):
            for kind in range(same.max() + 1):
                if len(set(t[same == kind])) > 1:
                    return j, linear_programming(self.points[same == kind], t[same == kind])
        if self.depth == 1 and self.method != "perceptron":
            for j, unit in enumerate(self._fitted(1)):
                if unit.separable is False:
                    return j, unit
        return None

    def solutions(self) -> Iterator[tuple[list[Units], list[np.ndarray]]]:
        """Units of all layers that meet all targets, and the hidden targets; ends if there is proved to be none more.

        Raises:
            Spent: the budget is; or a unit stayed undecided or a solution was not taken, so that nothing is proved.
        """
        self._limit = self.budget // 2 if self._is_small() else self.budget
        try:
            while True:
                before = self.steps
                self._begin()
                if self._solved(self.depth):
                    yield self._found()
                if self.steps == before:  # all of it was known, and will be again
                    self._step()
        except Spent:
            if not self._is_small():
                raise
        self._limit = self.budget
        tried, taken_back = 0, False
        for _ in self._every(1):
            tried += 1
            self.units[self.depth] = self._fitted(self.depth)
            if all(unit.separable for unit in self.units[self.depth]):
                yield self._found()
                taken_back = True
            self._note_nearest()
        if taken_back or any(unit.separable is None for unit in self._known.values()):
            raise Spent
        self.settings = tried

    def _found(self) -> tuple[list[Units], list[np.ndarray]]:
        if self.method == "linear_programming":
            return self.units[1:], self.targets[1:-1]
        better = [
            [METHODS[self.method](self._inputs(d), t) for t in self.targets[d].T] for d in range(1, self.depth + 1)
        ]
        pairs = [zip(new, old, strict=True) for new, old in zip(better, self.units[1:], strict=True)]
        return [[a if a.separable else b for a, b in pair] for pair in pairs], self.targets[1:-1]

    def _begin(self) -> None:
        """Random units, each through the middle of two samples."""
        for d, width in enumerate(self.widths, 1):
            inputs = self._inputs(d)
            weights = self.draw.normal(size=(width, inputs.shape[1]))
            pairs = self.draw.integers(len(inputs), size=(width, 2))
            biases = -(weights * inputs[pairs].mean(1)).sum(1) + 1e-6 * self.draw.normal(size=width)
            self.targets[d] = np.where(inputs @ weights.T + biases > 0, 1.0, -1.0)
            self.units[d] = self._fitted(d)

    def _solved(self, d: int) -> bool:
        """Whether layer d could be given its targets, by others below if need be; what is below is met anyhow."""
        units = self.units[d] = self._fitted(d)
        if all(unit.separable for unit in units):
            return True
        if d == 1:
            return False
        best, idle = sum(unit.loss for unit in units), 0
        while idle < (_PATIENCE if d == self.depth else _TRIES):
            kept = [list(self.units), list(self.targets)]
            self.targets[d - 1] = self._moved(d)
            if not self._solved(d - 1):
                self.targets[d - 1] = self._given(d - 1)
                self.units[d - 1] = self._fitted(d - 1)
            units = self.units[d] = self._fitted(d)
            if all(unit.separable for unit in units):
                return True
            loss = sum(unit.loss for unit in units)
            idle = 0 if loss < best - 1e-9 else idle + 1
            if loss <= best + 1e-9:  # sideways too
                best = loss
            else:
                self.units[:], self.targets[:] = kept
        return False

    def _moved(self, d: int) -> np.ndarray:
        """Targets below layer d, a few of them moved: where its loss falls, and of units that are near their border."""
        self._step()
        below, reached = self.targets[d - 1], self.targets[d] * self._reached(d)
        weights = np.stack([unit.weight for unit in self.units[d]])
        gradient = np.where(reached < 1, -self.targets[d], 0.0) @ weights
        missed = (reached < 1 - 1e-9).any(1, keepdims=True)
        falls = np.maximum(gradient * below, 0)
        chances = missed * (falls + 0.1 * falls.max() + 1e-3) / (0.1 + np.abs(self._reached(d - 1)))
        moves = min(int(self.draw.geometric(0.5)), chances.size)
        cells = self.draw.choice(chances.size, moves, p=(chances / chances.sum()).ravel())
        moved = below.copy()
        moved.flat[cells] *= -1
        return moved

    def _given(self, d: int) -> np.ndarray:
        """What the units of a layer give, as 1 and -1."""
        return np.where(self._reached(d) > 0, 1.0, -1.0)

    def _reached(self, d: int) -> np.ndarray:
        """z of the units of a layer (N, units)."""
        weights = np.stack([unit.weight for unit in self.units[d]])
        return self._inputs(d) @ weights.T + [unit.bias for unit in self.units[d]]

    def _inputs(self, d: int) -> np.ndarray:
        """What the units of layer d see (N, units below)."""
        if d == 1:
            return self.points
        low, high = self.values[d - 2]
        return np.where(self.targets[d - 1] > 0, high, low)

    def _fitted(self, d: int) -> Units:
        inputs = self._inputs(d)
        key = inputs.tobytes()
        return [self._unit(inputs, key, t) for t in self.targets[d].T]

    def _unit(self, inputs: np.ndarray, key: bytes, t: np.ndarray) -> Separability:
        if t[0] < 0:
            unit = self._unit(inputs, key, -t)
            return replace(unit, weight=-unit.weight, bias=-unit.bias)
        known = key, t.tobytes()
        if known not in self._known:
            self._step()
            fit = METHODS["perceptron"] if self.method == "perceptron" else linear_programming
            self._known[known] = fit(inputs, t)
        return self._known[known]

    def _step(self) -> None:
        if self.steps >= self._limit:
            raise Spent
        self.steps += 1

    def _is_small(self) -> bool:
        """Whether all hidden targets can be tried: of one layer as many as there are sets of dichotomies."""
        count = len(np.unique(self.points, axis=0))
        if self.depth == 1 or self.method == "perceptron" or count > _FEW:
            return False
        # Cover (1965): dichotomies of points in general position, of which there are no more in any other.
        dichotomies = sum(comb(count - 1, k) for k in range(min(self.points.shape[1] + 1, count)))
        return 2 ** (count - 1) + comb(dichotomies + self.widths[0] - 1, self.widths[0]) <= self.budget // 2

    def _every(self, d: int) -> Iterator[None]:
        """Give layers d and above all targets that they can meet, up to signs and order of units."""
        if d == self.depth:
            yield
            return
        inputs = self._inputs(d)
        distinct, same = np.unique(inputs, axis=0, return_inverse=True)
        key, dichotomies = inputs.tobytes(), []
        for rest in product((-1.0, 1.0), repeat=len(distinct) - 1):
            t = np.array([1.0, *rest])[same]
            unit = self._unit(inputs, key, t)
            if unit.separable:
                dichotomies.append((t, unit))
        for chosen in combinations_with_replacement(dichotomies, self.widths[d - 1]):
            self.targets[d] = np.stack([t for t, _ in chosen], 1)
            self.units[d] = [unit for _, unit in chosen]
            yield from self._every(d + 1)

    def _note_nearest(self) -> None:
        failed = [(j, unit) for j, unit in enumerate(self.units[self.depth]) if unit.separable is False]
        known = [] if self.nearest is None else [self.nearest]
        self.nearest = min([*known, *failed], key=lambda found: found[1].loss, default=None)
