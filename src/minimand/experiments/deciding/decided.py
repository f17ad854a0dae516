"""The result of a decisive study: its arms, the differences of its claims, and their verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..._support.style import Figure
from ..._support.tables import markdown, table_text
from ..statistics.held_out import HELD_OUT, STAGE
from ..statistics.paired import CONFIDENCE, PairedDifference, corrected
from ..statistics.verdict import UNDECIDED, verdict
from ..study import Cell, Measurement
from ..study_result import StudyResult
from .decided_figures import draw_against_flops, draw_by_arm, draw_learning_curves
from .decisive import Claim, DecisiveStudy, row_label

NOT_YET = "being measured"
ABOUT_CLAIMS = (
    "Paired by seed: Student's intervals; p of no difference after Holm's correction over all claims; p of equality "
    "is that of a difference beyond the margin, by two one-sided t tests, and is not corrected. Where seeds would show "
    "something, they do so four times in five."
)
"""The note below a table of claims."""
_AS_MANY = 1.05
"""The ratio of operations up to which arms count as equally costly, and a figure draws each in a row of its own."""


@dataclass(frozen=True)
class Decision:
    """A claim in one group of a study, the difference of its arms, and the verdict."""

    claim: Claim
    group: str | None
    difference: PairedDifference | None
    """The arm less the baseline, in the unit of the table; None while fewer than two seeds are in both."""
    seeds: int
    """The number of seeds that both arms have and neither diverged with."""
    verdict: str
    measured: int
    """The number of seeds that both arms were trained with, diverged or not."""

    @property
    def seeds_text(self) -> str:
        """The number of seeds, and of those at which an arm diverged."""
        diverged = self.measured - self.seeds
        return f"{self.seeds} ({diverged} diverged)" if diverged else str(self.seeds)


@dataclass(frozen=True)
class DecisiveResult(StudyResult):
    """The measurements of a decisive study so far: a table of arms, a table of claims, and figures."""

    study: DecisiveStudy

    @cached_property
    def judged(self) -> list[tuple[Cell, list[Measurement]]]:
        """The cells of the arms with their judged measurements; an arm that is not tuned yet is left out."""
        measured = [m for m in self.measurements if STAGE not in m.cell]
        cells = self.study.judged_cells(self.scale, self.measurements)
        return [(cell, [m for m in measured if m.cell == cell]) for cell in cells]

    def cells(self) -> list[Cell]:
        return [cell for cell, _ in self.judged]

    def columns(self) -> list[str]:
        flops = ["training FLOPs"] if self._has_flops else []
        tuned = ["chosen"] if self._is_tuned else []
        return [*super().columns(), "seeds", *flops, *tuned]

    def rows(self) -> list[list[str]]:
        """A row for each arm with a judged seed: mean and standard deviation, FLOPs of a training, what was chosen."""
        measured = [(cell, runs) for cell, runs in self.judged if runs]
        rows = []
        for row, (cell, runs) in zip(super().rows(), measured, strict=True):
            flops = [f"{_flops(runs):.3g}"] if self._has_flops else []
            tuned = [self._chosen_text(cell)] if self._is_tuned else []
            rows.append([*row, str(len(runs)), *flops, *tuned])
        return rows

    @property
    def _is_tuned(self) -> bool:
        return bool(self.study.tuning_cells(self.scale))

    @property
    def _has_flops(self) -> bool:
        return any(_flops(runs) for _, runs in self.judged)

    def _chosen_text(self, cell: Cell) -> str:
        arm = next(arm for arm in self.study.cells_at(self.scale) if row_label(arm) == row_label(cell))
        return str(self.study.chosen(arm, self.scale, self.measurements))

    @property
    def note(self) -> str:
        """A sentence on seeds, machine and versions behind the tables, on tuning, and on what is missing."""
        judged = [m for m in self.measurements if STAGE not in m.cell]
        text = self._provenance(judged or self.measurements) + self._missing()
        tuning = [m for m in self.measurements if STAGE in m.cell]
        if tuning:
            minutes = sum(m.seconds for m in tuning) / 60
            text += (
                f" Settings were chosen by {len(tuning)} trainings, judged on {HELD_OUT:.0%} of the training samples, "
                f"{minutes:.0f} min more."
            )
        return text

    def _missing(self) -> str:
        arms = self.study.cells_at(self.scale)
        trials = self.study.tuning_cells(self.scale)
        tuned, expected = sum(STAGE in m.cell for m in self.measurements), len(trials) * self.study.tuning_seeds
        if tuned < expected:
            return f" {expected - tuned} of {expected} trials are not made yet."
        labels = {row_label(cell) for cell, runs in self.judged if runs}
        lost = list(map(row_label, self._lost))
        diverged = f" Diverged at every trial: {', '.join(lost)}." if lost else ""
        waiting = len(arms) - len(lost) - len(labels)
        return diverged + (f" {waiting} of {len(arms)} rows are not measured yet." if waiting else "")

    @property
    def _lost(self) -> list[Cell]:
        """The arms that diverged at every trial, and are not judged; none before all trials are made."""
        tuned = [m for m in self.measurements if STAGE in m.cell]
        if len(tuned) < len(self.study.tuning_cells(self.scale)) * self.study.tuning_seeds:
            return []
        judged = set(map(row_label, self.cells()))
        return [arm for arm in self.study.cells_at(self.scale) if row_label(arm) not in judged]

    @cached_property
    def decisions(self) -> list[Decision]:
        """The verdict on each claim in each group that has its arms; p values after Holm's correction over all."""
        groups = list(dict.fromkeys(arm.get("group") for arm in self.study.cells_at(self.scale)))
        arms = {(arm.get("group"), arm["arm"]) for arm in self.study.cells_at(self.scale)}
        tested = [
            (claim, group, *self._paired(claim, group))
            for claim in self.study.claims
            for group in groups
            if (group, claim.arm) in arms and (group, claim.baseline) in arms
        ]
        differences = iter(corrected([PairedDifference(pairs) for *_, pairs, _ in tested if len(pairs) > 1]))
        decisions = []
        for claim, group, pairs, measured in tested:
            difference = next(differences) if len(pairs) > 1 else None
            words = self._verdict(claim, group, difference, measured)
            decisions.append(Decision(claim, group, difference, len(pairs), words, measured))
        return decisions

    def _paired(self, claim: Claim, group: Any) -> tuple[tuple[float, ...], int]:
        """The differences of a claim's arms by the seeds at which neither diverged, in the unit of the table.

        And the number of seeds that both were trained with.
        """
        column = self.study.columns[0]
        by_arm: list[dict[int, float | None]] = []
        for name in (claim.arm, claim.baseline):
            runs = [m for cell, runs in self.judged if (cell.get("group"), cell["arm"]) == (group, name) for m in runs]
            by_arm.append({m.seed: m.values.get(column.key) for m in runs})
        first, second = by_arm
        both = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
        return tuple(column.factor * (a - b) for a, b in both if a is not None and b is not None), len(both)

    def _verdict(self, claim: Claim, group: Any, difference: PairedDifference | None, measured: int) -> str:
        lost = {(arm.get("group"), arm["arm"]) for arm in self._lost}
        if names := [name for name in (claim.arm, claim.baseline) if (group, name) in lost]:
            return f"{UNDECIDED} ({' and '.join(names)} diverged at every trial)"
        if difference is None:
            is_whole = measured >= self.study.seeds_at(self.scale)
            return f"{UNDECIDED} (too many trainings diverged)" if is_whole else NOT_YET
        return verdict(difference, claim.expected, self.study.margin, self._size)

    def _size(self, value: float) -> str:
        return f"{value:.{self._digits}f} {self.study.unit}".rstrip()

    @property
    def _digits(self) -> int:
        return self.study.columns[0].digits + 1

    def claim_columns(self) -> list[str]:
        """The column heads of the table of claims."""
        group = ["group"] if any(decision.group is not None for decision in self.decisions) else []
        difference = f"difference, {self.study.unit}".removesuffix(", ")
        return ["claim", *group, "verdict", difference, f"{CONFIDENCE:.0%} interval", "p", "p of equality", "seeds"]

    @property
    def claim_labels(self) -> int:
        """The number of columns of the table of claims that are words; the others are numbers."""
        return self.claim_columns().index("verdict") + 1

    def claim_rows(self) -> list[list[str]]:
        """The rows of the table of claims: one for each claim in each group that has its arms."""
        has_group = any(decision.group is not None for decision in self.decisions)
        rows = []
        for d in self.decisions:
            labels = [d.claim.hypothesis if d.claim.names_both else f"{d.claim.hypothesis} ({d.claim.pair})"]
            labels += [str(d.group)] if has_group else []
            rows.append([*labels, d.verdict, *self._numbers(d.difference), d.seeds_text])
        return rows

    def _numbers(self, difference: PairedDifference | None) -> list[str]:
        if difference is None:
            return ["", "", "", ""]
        digits = self._digits
        low, high = difference.interval
        interval = f"{low:+.{digits}f} to {high:+.{digits}f}" if difference.has_spread else "no spread"
        equality = difference.equality_p(self.study.margin)
        return [f"{difference.mean:+.{digits}f}", interval, f"{difference.p:.2g}", f"{equality:.2g}"]

    def about_claims(self) -> str:
        """The note below the table of claims."""
        return f"{ABOUT_CLAIMS} The margin is {self._size(self.study.margin)}."

    def markdown(self) -> str:
        """Both tables and their notes in Markdown."""
        claims = markdown(self.claim_columns(), self.claim_rows(), self.claim_labels)
        return f"{super().markdown()}\n{claims}\n\n{self.about_claims()}\n"

    def figures(self) -> dict[str, Figure]:
        """What was measured against FLOPs, or by arm where all need as many; learning curves; the study's figures."""
        figures: dict[str, Figure] = {}
        runs = [(cell, [m for m in runs if self.study.columns[0].key in m.values]) for cell, runs in self.judged]
        measured = [(cell, of_arm) for cell, of_arm in runs if of_arm]
        heading = self.study.columns[0].heading
        operations = [flops for _, of_arm in measured if (flops := _flops(of_arm))]
        if operations and max(operations) <= _AS_MANY * min(operations):
            caption = f"{heading} of arms that need as many operations: mean and {CONFIDENCE:.0%} interval over seeds"
            figures[caption] = draw_by_arm(measured, [row_label(cell) for cell, _ in measured], self.study.columns[0])
        elif operations:
            caption = f"{heading} against the operations of a training: mean and {CONFIDENCE:.0%} interval over seeds"
            figures[caption] = draw_against_flops(measured, self.study.columns[0])
        # The curve of a single epoch is the point that the figure before shows.
        curves = [
            (cell, of_arm) for cell, of_arm in measured if all(len(m.values.get("curve", ())) > 1 for m in of_arm)
        ]
        if curves:
            caption = f"{heading} over a training: mean and range over seeds"
            figures[caption] = draw_learning_curves(curves, self.study.columns[0])
        return figures | super().figures()

    def __str__(self) -> str:
        claims = table_text(self.claim_columns(), self.claim_rows(), note=self.about_claims(), labels=self.claim_labels)
        return f"{super().__str__()}\n\n{claims}"


def _flops(runs: Sequence[Measurement]) -> float:
    return next((m.values["flops"] for m in runs if m.values.get("flops")), 0.0)
