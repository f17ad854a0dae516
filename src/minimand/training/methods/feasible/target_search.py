"""The search for hidden targets that make every unit separable (Friesen & Domingos 2018, Algorithm 1, as recalled)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, product
from math import comb

import numpy as np

from ....theory.feasibility import METHODS, Separability, linear_programming

# A hidden layer fails after so many moves of the targets below it; the top layer after so many without any progress,
# and then everything is drawn anew.
_HIDDEN_MOVES, _TOP_MOVES = 4, 40
# The most points whose labels are all tried to see which ones a unit can give.
_FEW_POINTS = 10

Units = list[Separability]


class BudgetSpent(Exception):
    """The search for targets has taken all the steps that it may."""


@dataclass
class TargetSearch:
    """The search for targets of all layers of a network of threshold units that every unit can meet.

    The samples are `points` (N, d); `outputs` are the targets of the output units (N, outputs), 1 or -1; `widths` and
    `values` are the number of units of each hidden layer and their two activations, low and high.
    """

    points: np.ndarray
    outputs: np.ndarray
    widths: Sequence[int]
    values: Sequence[tuple[float, float]]
    method: str
    budget: int
    generator: np.random.Generator
    steps: int = 0
    settings: int = 0
    """The number of settings of the hidden targets if all of them were tried, else 0."""
    nearest: tuple[int, Separability] | None = None
    """The output unit that failed, in the setting of the least loss."""
    _solved_units: dict[tuple[bytes, bytes], Separability] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depth = len(self.widths) + 1
        self._limit = self.budget
        # By layer, counted from 1, the units and their targets; targets[0] is the input.
        self.units: list[Units] = [[] for _ in range(self.depth + 1)]
        self.targets: list[np.ndarray] = [self.points, *[np.empty(0)] * (self.depth - 1), self.outputs]

    def impossible(self) -> tuple[int, Separability] | None:
        """An output unit that no hidden targets help, and why: equal samples contradict it, or nothing is hidden."""
        _, group = np.unique(self.points, axis=0, return_inverse=True)
        for j, t in enumerate(self.outputs.T):
            for number in range(group.max() + 1):
                equal = group == number
                if len(set(t[equal])) > 1:
                    return j, linear_programming(self.points[equal], t[equal])
        if self.depth == 1 and self.method != "perceptron":
            for j, unit in enumerate(self._fitted(1)):
                if unit.separable is False:
                    return j, unit
        return None

    def solutions(self) -> Iterator[tuple[list[Units], list[np.ndarray]]]:
        """Units of all layers that meet all targets, and the hidden targets; ends where none is proved to be left.

        Raises BudgetSpent where no step is left, or nothing is proved: a unit stayed undecided or a solution untaken.
        """
        self._limit = self.budget // 2 if self._is_small() else self.budget
        try:
            while True:
                before = self.steps
                self._begin()
                if self._solved(self.depth):
                    yield self._solution()
                if self.steps == before:  # every unit had been solved before, and will be again
                    self._count_step()
        except BudgetSpent:
            if not self._is_small():
                raise
        self._limit = self.budget
        settings, taken_back = 0, False
        for _ in self._every_setting(1):
            settings += 1
            self.units[self.depth] = self._fitted(self.depth)
            if all(unit.separable for unit in self.units[self.depth]):
                yield self._solution()
                taken_back = True
            self._note_nearest()
        if taken_back or any(unit.separable is None for unit in self._solved_units.values()):
            raise BudgetSpent
        self.settings = settings

    def _solution(self) -> tuple[list[Units], list[np.ndarray]]:
        """The units and the hidden targets, the units fitted again by the method where that succeeds."""
        units = self.units[1:]
        if self.method != "linear_programming":
            units = [[self._refitted(d, j) for j in range(len(layer))] for d, layer in enumerate(units, 1)]
        return units, self.targets[1:-1]

    def _refitted(self, d: int, j: int) -> Separability:
        unit = METHODS[self.method](self._inputs(d), self.targets[d].T[j])
        return unit if unit.separable else self.units[d][j]

    def _begin(self) -> None:
        """Draw random units, each through the middle of two samples."""
        for d, width in enumerate(self.widths, 1):
            inputs = self._inputs(d)
            weights = self.generator.normal(size=(width, inputs.shape[1]))
            pairs = self.generator.integers(len(inputs), size=(width, 2))
            biases = -(weights * inputs[pairs].mean(1)).sum(1) + 1e-6 * self.generator.normal(size=width)
            self.targets[d] = np.where(inputs @ weights.T + biases > 0, 1.0, -1.0)
            self.units[d] = self._fitted(d)

    def _solved(self, d: int) -> bool:
        """Whether layer d meets its targets, if need be by moved targets below; the layers below meet theirs anyhow."""
        units = self.units[d] = self._fitted(d)
        if all(unit.separable for unit in units):
            return True
        if d == 1:
            return False
        best, idle = sum(unit.loss for unit in units), 0
        while idle < (_TOP_MOVES if d == self.depth else _HIDDEN_MOVES):
            before = [list(self.units), list(self.targets)]
            self.targets[d - 1] = self._moved(d)
            if not self._solved(d - 1):
                self.targets[d - 1] = np.where(self._preactivations(d - 1) > 0, 1.0, -1.0)
                self.units[d - 1] = self._fitted(d - 1)
            units = self.units[d] = self._fitted(d)
            if all(unit.separable for unit in units):
                return True
            loss = sum(unit.loss for unit in units)
            idle = 0 if loss < best - 1e-9 else idle + 1
            if loss <= best + 1e-9:  # a move to an equal loss is taken too
                best = loss
            else:
                self.units[:], self.targets[:] = before
        return False

    def _moved(self, d: int) -> np.ndarray:
        """Targets below layer d, a few of them moved: where its loss falls, and of units that are near their border."""
        self._count_step()
        below, reached = self.targets[d - 1], self.targets[d] * self._preactivations(d)
        weights = np.stack([unit.weight for unit in self.units[d]])
        gradient = np.where(reached < 1, -self.targets[d], 0.0) @ weights
        missed = (reached < 1 - 1e-9).any(1, keepdims=True)
        falls = np.maximum(gradient * below, 0)
        chances = missed * (falls + 0.1 * falls.max() + 1e-3) / (0.1 + np.abs(self._preactivations(d - 1)))
        moves = min(int(self.generator.geometric(0.5)), chances.size)
        cells = self.generator.choice(chances.size, moves, p=(chances / chances.sum()).ravel())
        moved = below.copy()
        moved.flat[cells] *= -1
        return moved

    def _preactivations(self, d: int) -> np.ndarray:
        """The values w x + b of the units of layer d (N, units)."""
        weights = np.stack([unit.weight for unit in self.units[d]])
        return self._inputs(d) @ weights.T + [unit.bias for unit in self.units[d]]

    def _inputs(self, d: int) -> np.ndarray:
        """The inputs of the units of layer d (N, units below)."""
        if d == 1:
            return self.points
        low, high = self.values[d - 2]
        return np.where(self.targets[d - 1] > 0, high, low)

    def _fitted(self, d: int) -> Units:
        """Units of layer d, each fitted to its targets as well as can be."""
        inputs = self._inputs(d)
        key = inputs.tobytes()
        return [self._unit(inputs, key, t) for t in self.targets[d].T]

    def _unit(self, inputs: np.ndarray, key: bytes, t: np.ndarray) -> Separability:
        if t[0] < 0:
            unit = self._unit(inputs, key, -t)
            return replace(unit, weight=-unit.weight, bias=-unit.bias)
        problem = key, t.tobytes()
        if problem not in self._solved_units:
            self._count_step()
            fit = METHODS["perceptron"] if self.method == "perceptron" else linear_programming
            self._solved_units[problem] = fit(inputs, t)
        return self._solved_units[problem]

    def _count_step(self) -> None:
        if self.steps >= self._limit:
            raise BudgetSpent
        self.steps += 1

    def _is_small(self) -> bool:
        """Whether all hidden targets can be tried: one layer has as many as there are multisets of dichotomies."""
        count = len(np.unique(self.points, axis=0))
        if self.depth == 1 or self.method == "perceptron" or count > _FEW_POINTS:
            return False
        # Cover (1965): dichotomies of points in general position, of which there are no more in any other.
        dichotomies = sum(comb(count - 1, k) for k in range(min(self.points.shape[1] + 1, count)))
        return 2 ** (count - 1) + comb(dichotomies + self.widths[0] - 1, self.widths[0]) <= self.budget // 2

    def _every_setting(self, d: int) -> Iterator[None]:
        """Give hidden layers d and above all targets that they can meet, up to signs and order of units."""
        if d == self.depth:
            yield
            return
        inputs = self._inputs(d)
        distinct, group = np.unique(inputs, axis=0, return_inverse=True)
        key, dichotomies = inputs.tobytes(), []
        for labels in product((-1.0, 1.0), repeat=len(distinct) - 1):
            t = np.array([1.0, *labels])[group]
            unit = self._unit(inputs, key, t)
            if unit.separable:
                dichotomies.append((t, unit))
        for chosen in combinations_with_replacement(dichotomies, self.widths[d - 1]):
            self.targets[d] = np.stack([t for t, _ in chosen], 1)
            self.units[d] = [unit for _, unit in chosen]
            yield from self._every_setting(d + 1)

    def _note_nearest(self) -> None:
        failed = [(j, unit) for j, unit in enumerate(self.units[self.depth]) if unit.separable is False]
        candidates = failed if self.nearest is None else [self.nearest, *failed]
        self.nearest = min(candidates, key=lambda candidate: candidate[1].loss, default=None)
