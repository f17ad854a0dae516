"""Figures that studies have in common."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from .._support.style import COLORS, Figure, draw_mean_and_range, legend_below, new_figure, one_panel, plain
from .study import Column, FiguresByCaption, Measurements


def values_by(measurements: Measurements, column: Column, settings: Sequence[str]) -> dict[Any, list[float]]:
    """The values of a column by the settings of their cells, as tuples; what diverged is left out."""
    values: dict[Any, list[float]] = {}
    for m in measurements:
        if column.key in m.values:
            key = tuple(m.cell[name] for name in settings)
            values.setdefault(key, []).append(column.factor * m.values[column.key])
    return values


def draw_sweep(
    measurements: Measurements, column: Column, panel: str, x: str = "depth", line: str = "algorithm"
) -> Figure:
    """Draw a column against the setting `x`: a panel for each value of `panel`, a line for each of `line`.

    Lines are means over seeds, with their range.
    """
    panels = list(dict.fromkeys(m.cell[panel] for m in measurements))
    lines = list(dict.fromkeys(m.cell[line] for m in measurements))
    values = values_by(measurements, column, (panel, line, x))
    figure = new_figure(3 * len(panels) + 0.6, 3.0 + 0.2 * math.ceil(len(lines) / 2))
    for axes, value in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        plain(axes)
        for name, color in zip(lines, COLORS * len(lines), strict=False):
            positions = sorted(key[2] for key in values if key[:2] == (value, name))
            draw_mean_and_range(axes, positions, [values[value, name, at] for at in positions], color, name)
        axes.set_title(value if isinstance(value, str) else f"{panel} {value}", fontsize=9)
        axes.set_xlabel(x)
    figure.axes[0].set_ylabel(column.heading)
    legend_below(figure, columns=2)
    return figure


def sweep(
    title: str, column: Column, panel: str, x: str = "depth", line: str = "algorithm"
) -> Callable[[Measurements], FiguresByCaption]:
    """The `figures` of a study that has one, by `draw_sweep`."""
    caption = f"{title}: mean and range over seeds"
    return lambda measurements: {caption: draw_sweep(measurements, column, panel, x, line)}


def rows(
    title: str, labels: Sequence[str], column: Column, note: str = ""
) -> Callable[[Measurements], FiguresByCaption]:
    """The `figures` of a study that has one: a column in a row for each cell, colours by the first label.

    Each seed has a point, and their mean a line.
    """

    def draw(measurements: Measurements) -> FiguresByCaption:
        values = values_by(measurements, column, labels)
        first = list(dict.fromkeys(key[0] for key in values))
        figure, axes = one_panel(7.5, 0.8 + 0.27 * len(values))
        for row, (key, of_row) in enumerate(values.items()):
            color = COLORS[first.index(key[0]) % len(COLORS)]
            axes.plot(of_row, [row] * len(of_row), "o", color=color, markersize=4, alpha=0.7)
            axes.plot([statistics.mean(of_row)] * 2, [row - 0.35, row + 0.35], color=color, linewidth=2)
        axes.set_yticks(range(len(values)), [", ".join(map(str, key)) for key in values], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(column.heading)
        return {f"{title}: each seed a point, their mean a line{note}": figure}

    return draw
