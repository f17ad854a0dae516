"""The result of a study: its measurements so far as a table and figures."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .._support.style import Figure
from .._support.tables import markdown, spread, table_text
from .study import Cell, Column, Measurement, Scale, Study


@dataclass(frozen=True)
class StudyResult:
    """The measurements of a study so far, as a table and figures."""

    study: Study
    scale: Scale
    measurements: list[Measurement]

    def cells(self) -> list[Cell]:
        """The cells of the rows of the table."""
        return self.study.cells_at(self.scale)

    def columns(self) -> list[str]:
        """The column heads of the table."""
        published = ["published"] if self.study.published else []
        return [*self.study.labels, *(c.heading for c in self.study.columns), *published]

    def rows(self) -> list[list[str]]:
        """A row for each measured cell: mean and standard deviation over the seeds."""
        rows = []
        for cell in self.cells():
            measured = [m for m in self.measurements if m.cell == cell]
            if measured:
                labels = [str(cell[name]) for name in self.study.labels]
                values = [column_text(measured, c) for c in self.study.columns]
                published = [self.study.published(cell)] if self.study.published else []
                rows.append([*labels, *values, *published])
        return rows

    @property
    def note(self) -> str:
        """A sentence on the seeds, machine and versions behind the table, and on what is missing."""
        seeds_of_rows = [{m.seed for m in self.measurements if m.cell == cell} for cell in self.cells()]
        every, count = {m.seed for m in self.measurements}, len(seeds_of_rows)
        missing = sum(not seeds for seeds in seeds_of_rows)
        fewer = sum(bool(seeds) and seeds != every for seeds in seeds_of_rows)
        return (
            self._provenance(self.measurements)
            + (f" {missing} of {count} rows are not measured yet." if missing else "")
            + (f" {fewer} of {count} rows do not have all seeds yet." if fewer else "")
        )

    def _provenance(self, measurements: Sequence[Measurement]) -> str:
        seeds = sorted({m.seed for m in measurements})
        machines = [m.environment for m in measurements]
        hardware, versions, dates = (sorted({m[key] for m in machines}) for key in ("hardware", "torch", "date"))
        minutes = sum(m.seconds for m in measurements) / 60
        statistic = "mean and standard deviation over seeds" if len(seeds) > 1 else "seed"
        machine = f"{', '.join(hardware)}, torch {', '.join(versions)}"
        period = " to ".join(dict.fromkeys((dates[0][:10], dates[-1][:10])))
        return (
            f"{self.study.name} at {self.scale} scale; {statistic} {', '.join(map(str, seeds))}; {machine}, {period}, "
            f"{minutes:.0f} min in all."
        )

    def markdown(self) -> str:
        """The table and its note in Markdown."""
        return f"{markdown(self.columns(), self.rows(), len(self.study.labels))}\n\n{self.note}\n"

    def figures(self) -> dict[str, Figure]:
        """The figures of the study by their captions."""
        return dict(self.study.figures(self.measurements))

    def __str__(self) -> str:
        return table_text(self.columns(), self.rows(), note=self.note, labels=len(self.study.labels))


def column_text(measured: Sequence[Measurement], column: Column) -> str:
    """The text of a column for the measurements of one cell."""
    values = [m.values[column.key] for m in measured if column.key in m.values]
    if not values:
        return "diverged" if any("diverged" in m.values for m in measured) else ""
    if isinstance(values[0], str):
        return ", ".join(dict.fromkeys(values))
    values = [column.factor * value for value in values]
    if all(value == values[0] for value in values):
        text = f"{statistics.mean(values):,.{column.digits}{column.style}}"
    else:
        text = spread(values, column.digits, column.style)
    diverged = len(measured) - len(values)
    return f"{text} ({diverged} of {len(measured)} diverged)" if diverged else text
