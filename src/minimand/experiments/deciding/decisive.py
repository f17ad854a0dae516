"""Decisive studies: arms whose settings are tuned by the same budget, and claims that pairs of them decide."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, Literal

from ..._support.errors import MinimandError
from ..statistics.held_out import HELD_OUT, SEED, STAGE, TUNING
from ..statistics.plan import EQUALITY_TEST
from ..statistics.verdict import Expected
from ..study import Cell, Measurement, Measurements, Scale, Study

TEST_OF_CLAIMS = (
    "paired t test over seeds for each claim in each group, two-sided at 5 %, Holm's correction over all of them; "
    + EQUALITY_TEST
)
"""How the claims of a study are judged."""


@dataclass(frozen=True)
class Claim:
    """A hypothesis on an arm and its baseline, which is tested in each group that has both."""

    hypothesis: str
    """The claim in words, such as "heavy ball is more accurate than gradient descent"."""
    arm: str
    baseline: str
    expected: Expected
    """How the arm's judged number is beside the baseline's."""
    source: str = ""
    """The source that claims it, a key of references.bib; empty for a question of ours."""

    @property
    def names_both(self) -> bool:
        """Whether the hypothesis names the arm and the baseline as the table does."""
        return self.arm in self.hypothesis and self.baseline in self.hypothesis

    @property
    def pair(self) -> str:
        """The difference that is tested, in words."""
        return f"{self.arm} less {self.baseline}"


@dataclass(frozen=True)
class Trials:
    """The settings that are tried for an arm: updates of its cell, and those that hold for the trials only."""

    settings: Sequence[Mapping[str, Any]]
    """One update for each trial; the best one is in the judged cell too."""
    while_tuning: Mapping[str, Any] = field(default_factory=dict)
    """An update of the trials only, such as fewer epochs. Trials that are equal with it are made once: groups that
    differ only in what it sets share their tuning."""


@dataclass(frozen=True)
class Chosen:
    """What tuning chose for an arm."""

    settings: Mapping[str, Any]
    """The best of the trials' settings."""
    edges: tuple[str, ...]
    """The settings whose best value is the smallest or the largest of those tried, so that a better may lie beyond."""

    def __str__(self) -> str:
        texts = [
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.settings.items()
        ]
        return ", ".join(
            f"{text} (at the edge)" if name in self.edges else text
            for name, text in zip(self.settings, texts, strict=True)
        )


@dataclass(frozen=True)
class DecisiveStudy(Study):
    """A study that decides claims: a plan first, then tuning on held-out data, then paired seeds.

    Its cells are arms: plain settings with an `arm`, the label of the row, and possibly a `group`, such as a budget,
    within which arms are compared. The first column is what is judged. `measure` takes the samples from
    `bench.data_of(cell)`, or `judged_part(data, cell)` for data of its own: both have a held-out part of the training
    samples in place of the test samples while settings are tuned.
    """

    published: Callable[[Cell], str] | None = None
    _: KW_ONLY
    claims: tuple[Claim, ...]
    trials: Callable[[Cell, Scale], Trials] = lambda cell, scale: Trials(({},))
    """A function that gives what is tried for an arm; as many trials for each arm, one where nothing is tuned."""
    better: Literal["higher", "lower"] = "higher"
    """Whether tuning looks for the highest or the lowest of what is judged."""
    unit: str = "points"
    """The unit of differences of what is judged."""
    margin: float
    """The size of a difference, in the unit of the first column, that counts as none."""
    seeds: int = 10
    """The number of judged seeds; two at smoke scale."""
    tuning_seeds: int = 1
    """The number of trainings of each trial, over which what is judged is averaged; none of a judged seed."""

    def seeds_at(self, scale: Scale) -> int:
        return 2 if scale == "smoke" else self.seeds

    def plan(self, scale: Scale, seeds: int) -> dict[str, Any]:
        return {
            "study": self.name,
            "scale": scale,
            "claims": [asdict(claim) for claim in self.claims],
            "arms": self.cells_at(scale),
            "seeds": list(range(seeds)),
            "judged": self.columns[0].heading,
            "margin": self.margin,
            "tuning": {
                "trials": [dict(cell) for cell in self.tuning_cells(scale)] or "none",
                "held out": HELD_OUT,
                "seeds": self._seeds_of_tuning,
                "the best": f"the {self.better} {self.columns[0].heading} on the held-out part",
            },
            "test": TEST_OF_CLAIMS,
        }

    @property
    def _seeds_of_tuning(self) -> list[int]:
        return [SEED + i for i in range(self.tuning_seeds)]

    def tuning_cells(self, scale: Scale) -> list[Cell]:
        """The cells by which settings are chosen, each once; none where there is nothing to choose.

        Raises:
            MinimandError: arms with different numbers of trials.
        """
        trials = {row_label(cell): self.trials(cell, scale) for cell in self.cells_at(scale)}
        counts = {label: len(of_arm.settings) for label, of_arm in trials.items()}
        if len(set(counts.values())) > 1:
            raise MinimandError(
                f"the arms of {self.name} have different numbers of trials, {counts}; expected the same."
            )
        if set(counts.values()) == {1}:
            return []
        cells: list[Cell] = []
        for arm in self.cells_at(scale):
            of_arm = self.trials(arm, scale)
            cells += (cell for cell in _trial_cells(arm, of_arm) if cell not in cells)
        return cells

    def chosen(self, arm: Cell, scale: Scale, measurements: Measurements) -> Chosen | None:
        """What tuning chose for an arm; None where a trial is missing, or where each one diverged."""
        of_arm = self.trials(arm, scale)
        if len(of_arm.settings) == 1:
            return Chosen(of_arm.settings[0], ())
        tuned = [m for m in measurements if m.cell.get(STAGE) == TUNING]
        order: list[tuple[float, float]] = []
        for cell in _trial_cells(arm, of_arm):
            measured = [m for m in tuned if m.cell == cell]
            if len(measured) < self.tuning_seeds:
                return None
            order.append(self._order(measured))
        if max(order)[0] == -math.inf:
            return None
        best = of_arm.settings[order.index(max(order))]
        return Chosen(best, tuple(name for name in best if _at_the_edge(name, best, of_arm.settings)))

    def _order(self, measured: Sequence[Measurement]) -> tuple[float, float]:
        """What the best trial has most of: the judged value, and where that is equal the least loss."""
        key = self.columns[0].key
        values = [float(m.values[key]) for m in measured if key in m.values]
        if len(values) < len(measured) or not all(map(math.isfinite, values)):
            return -math.inf, -math.inf
        losses = [m.values.get("loss", 0.0) for m in measured]
        sign = 1 if self.better == "higher" else -1
        return sign * statistics.mean(values), -statistics.mean(losses)

    def judged_cells(self, scale: Scale, measurements: Measurements) -> list[Cell]:
        """The cells of the arms whose settings are chosen, with them."""
        cells = []
        for arm in self.cells_at(scale):
            if (chosen := self.chosen(arm, scale, measurements)) is not None:
                cells.append({**arm, **chosen.settings})
        return cells

    def own(self, scale: Scale, measurements: Measurements) -> list[Measurement]:
        cells = [*self.tuning_cells(scale), *self.judged_cells(scale, measurements)]
        return [m for m in measurements if m.cell in cells]

    def missing(self, scale: Scale, seeds: int, measurements: Measurements) -> list[tuple[Cell, int]]:
        done = [(m.cell, m.seed) for m in measurements]
        seeds_of_tuning, trials = self._seeds_of_tuning, self.tuning_cells(scale)
        tuning = [(cell, seed) for seed in seeds_of_tuning for cell in trials if (cell, seed) not in done]
        if tuning:
            return tuning
        cells = self.judged_cells(scale, measurements)
        return [(cell, seed) for seed in range(seeds) for cell in cells if (cell, seed) not in done]

    def described(self, cell: Cell, scale: Scale) -> str:
        if STAGE not in cell:
            return row_label(cell)
        tried = dict.fromkeys(name for trial in self.trials(cell, scale).settings for name in trial)
        return ", ".join([f"tuning {row_label(cell)}", *(f"{name} {cell[name]}" for name in tried)])

    def decided(self, scale: Scale, measurements: Measurements) -> list[str]:
        if any(m.cell.get(STAGE) != TUNING for m in measurements):
            return []
        lines = []
        for arm in self.cells_at(scale):
            chosen = self.chosen(arm, scale, measurements)
            text = "diverged at every trial and is not judged" if chosen is None else f"chosen: {chosen}"
            lines.append(f"{row_label(arm)}: {text}")
        return lines


def row_label(cell: Cell) -> str:
    """The arm of a cell, behind its group where it has one."""
    return ", ".join(str(cell[name]) for name in ("group", "arm") if name in cell)


def _trial_cells(arm: Cell, trials: Trials) -> list[Cell]:
    return [{**arm, **settings, **trials.while_tuning, STAGE: TUNING} for settings in trials.settings]


def _at_the_edge(name: str, best: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the best value of a setting is the first or the last of the numbers that were tried for it."""
    values = sorted({trial[name] for trial in trials if isinstance(trial.get(name), int | float)})
    return len(values) > 1 and best[name] in (values[0], values[-1])
