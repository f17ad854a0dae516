"""The layers of a diagnosis as a picture (extra `plots`)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..._support.style import BLUE, GRID, INK, RED, new_figure
from ..measure.layer_stat import LayerStat
from .expected import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_report(
    stats: Sequence[LayerStat], title: str, jacobian: Sequence[float] | None = None, product: Product | None = None
) -> "Figure":
    """A figure of second moment, cosine and passing gradient against the layer, and of the Jacobian's singular values.

    What theory expects is dashed.
    """
    figure = new_figure(11, 3.2)
    figure.suptitle(title, fontsize=11, color=INK)
    panels = [
        ("E h²", [s.second_moment for s in stats], [s.expected_second_moment for s in stats]),
        ("cosine between samples", [s.cosine for s in stats], [s.expected_cosine for s in stats]),
        ("squared gradient", [s.read_gradient for s in stats], _expected_gradient(stats)),
    ]
    places = figure.subplots(1, 4 if jacobian else 3)
    for axes, (name, measured, expected) in zip(places, panels, strict=False):
        axes.plot(range(len(stats)), measured, ".-", color=BLUE, markersize=4, label="measured")
        if not all(map(math.isnan, expected)):
            axes.plot(range(len(stats)), expected, "--", color=RED, label="mean field")
        if name != "cosine between samples" and any(value > 0 for value in measured):
            axes.set_yscale("log")
        axes.set_xlabel("layer", fontsize=8)
        _finish(axes, name)
    if jacobian:
        _histogram(places[-1], np.array(jacobian), product)
    return figure


def _histogram(axes: "Axes", values: np.ndarray, product: Product | None) -> None:
    axes.hist(values, 40, density=True, color=BLUE, alpha=0.6, label="measured")
    if product is not None:
        at = np.linspace(0, 1.2 * float(values.max()), 201)[1:]
        axes.plot(at, product.density(at), "--", color=RED, label="free probability")
    _finish(axes, "singular values of the Jacobian")


def _finish(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(which="both", colors=INK, labelsize=8)
    axes.legend(frameon=False, fontsize=8)


def _expected_gradient(stats: Sequence[LayerStat]) -> list[float]:
    """The gradients from the last layer, where they start, backwards through the factors that theory expects."""
    gradients = [math.nan] * len(stats)
    gradients[-1] = stats[-1].read_gradient
    for i in range(len(stats) - 2, -1, -1):
        gradients[i] = gradients[i + 1] * stats[i].expected_chi
    return gradients if len(stats) > 1 and not math.isnan(gradients[-2]) else [math.nan] * len(stats)
