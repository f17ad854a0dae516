"""Figures that studies have in common."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._support.style import COLORS, new_figure, plain
from .study import Column, Measurement

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_sweep(
    measurements: Sequence[Measurement], column: Column, panel: str, x: str = "depth", line: str = "algorithm"
) -> "Figure":
    """A value against one setting: a panel for each value of another, a line for each algorithm; mean and range."""
    panels = list(dict.fromkeys(m.cell[panel] for m in measurements))
    lines = list(dict.fromkeys(m.cell[line] for m in measurements))
    figure = new_figure(3 * len(panels) + 0.6, 3.0 + 0.2 * math.ceil(len(lines) / 2))
    for axes, value in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        plain(axes)
        for name, color in zip(lines, COLORS * len(lines), strict=False):
            found: dict[int, list[float]] = {}
            for m in measurements:
                if (m.cell[panel], m.cell[line]) == (value, name) and column.key in m.values:
                    found.setdefault(m.cell[x], []).append(column.factor * m.values[column.key])
            at = sorted(found)
            axes.plot(at, [statistics.mean(found[a]) for a in at], "o-", color=color, markersize=3, label=name)
            axes.fill_between(at, [min(found[a]) for a in at], [max(found[a]) for a in at], color=color, alpha=0.12)
        axes.set_title(value if isinstance(value, str) else f"{panel} {value}", fontsize=9)
        axes.set_xlabel(x)
    figure.axes[0].set_ylabel(column.heading)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_rows(measurements: Sequence[Measurement], labels: Sequence[str], column: Column) -> "Figure":
    """A value of each cell: a row for each, a point for each seed and a line at their mean; colours by first label."""
    found: dict[tuple[str, ...], list[float]] = {}
    for m in measurements:
        if column.key in m.values:
            found.setdefault(tuple(str(m.cell[name]) for name in labels), []).append(
                column.factor * m.values[column.key]
            )
    first = list(dict.fromkeys(key[0] for key in found))
    figure = new_figure(7.5, 0.8 + 0.27 * len(found))
    axes = plain(figure.subplots())
    for row, (key, values) in enumerate(found.items()):
        color = COLORS[first.index(key[0]) % len(COLORS)]
        axes.plot(values, [row] * len(values), "o", color=color, markersize=4, alpha=0.7)
        axes.plot([statistics.mean(values)] * 2, [row - 0.35, row + 0.35], color=color, linewidth=2)
    axes.set_yticks(range(len(found)), [", ".join(key) for key in found], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(column.heading)
    return figure
