"""Figures that studies have in common."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..report.figures import COLORS, new_figure, plain
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
        axes.set_title(f"{panel} {value}", fontsize=9)
        axes.set_xlabel(x)
    figure.axes[0].set_ylabel(column.heading)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return figure
