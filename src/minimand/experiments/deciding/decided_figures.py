"""Figures of decisive studies: what is judged against operations, by arm, and over a training."""

import statistics
from collections.abc import Sequence
from typing import Any

from ..._support.style import COLORS, Figure, draw_mean_and_range, legend_below, literal, new_figure, plain
from ..statistics.paired import interval_of
from ..study import Cell, Column, Measurement

Arms = Sequence[tuple[Cell, Sequence[Measurement]]]
"""The cells of arms with their measurements."""


def draw_against_flops(arms: Arms, column: Column) -> Figure:
    """Draw the judged number of each arm against the operations of a training: mean and interval; groups are joined."""
    names = list(dict.fromkeys(cell["arm"] for cell, _ in arms))
    figure = new_figure(6, 3.2 + 0.2 * len(names))
    axes = plain(figure.subplots())
    for name, color in zip(names, COLORS * len(names), strict=False):
        runs = [of_arm for cell, of_arm in arms if cell["arm"] == name and "flops" in of_arm[0].values]
        values = [[column.factor * m.values[column.key] for m in of_arm] for of_arm in runs]
        x = [of_arm[0].values["flops"] for of_arm in runs]
        means, ends = [statistics.mean(v) for v in values], [interval_of(v) for v in values]
        bars = [[mean - low for mean, (low, _) in zip(means, ends, strict=True)]] * 2
        style: Any = {"fmt": "o-", "color": color, "markersize": 4, "capsize": 3, "linewidth": 1}
        axes.errorbar(x, means, bars, label=literal(str(name)), **style)
    axes.set(xlabel="floating-point operations of a training", ylabel=column.heading, xscale="log")
    legend_below(figure)
    return figure


def draw_by_arm(arms: Arms, labels: Sequence[str], column: Column) -> Figure:
    """Draw the judged number of each arm in a row of its own: mean and interval over seeds."""
    figure = new_figure(6, 1.0 + 0.25 * len(arms))
    axes = plain(figure.subplots())
    for row, (_, runs) in enumerate(arms):
        values = [column.factor * m.values[column.key] for m in runs]
        mean, (low, _) = statistics.mean(values), interval_of(values)
        axes.errorbar(mean, row, xerr=mean - low, fmt="o", color=COLORS[0], markersize=4, capsize=3, linewidth=1)
    axes.set_yticks(range(len(arms)), [literal(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(column.heading)
    return figure


def draw_learning_curves(arms: Arms, column: Column) -> Figure:
    """Draw the judged number of each arm over the share of its training that is done, a panel for each group."""
    groups = list(dict.fromkeys(cell.get("group") for cell, _ in arms))
    names = list(dict.fromkeys(cell["arm"] for cell, _ in arms))
    figure = new_figure(1.5 + 3.5 * len(groups), 3.0 + 0.2 * len(names))
    for axes, group in zip(figure.subplots(1, len(groups), sharey=True, squeeze=False)[0], groups, strict=True):
        plain(axes)
        for name, color in zip(names, COLORS * len(names), strict=False):
            for cell, runs in arms:
                if (cell.get("group"), cell["arm"]) != (group, name):
                    continue
                by_epoch = list(zip(*[[column.factor * v for v in m.values["curve"]] for m in runs], strict=True))
                share = [(k + 1) / len(by_epoch) for k in range(len(by_epoch))]
                draw_mean_and_range(axes, share, by_epoch, color, literal(str(name)), style="-", alpha=0.15)
        axes.set_xlabel("share of the training")
        axes.set_title("" if group is None else str(group), fontsize=9)
    figure.axes[0].set_ylabel(column.heading)
    legend_below(figure)
    return figure
