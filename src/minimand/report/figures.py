"""The figures of a run's page: curves, confusion and coefficients (extra `plots`)."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

from .._support.style import COLORS, INK, Figure, literal, new_figure, one_panel, plain

_LONGEST = 24  # characters of a class in a figure


def draw_curves(history: Sequence[dict[str, Any]]) -> Figure:
    """Draw loss, and accuracy where there is one, over the epochs; training and test."""
    has_accuracy = history[0]["test_accuracy"] is not None
    figure = new_figure(9 if has_accuracy else 5, 3)
    panels = [("loss", 1.0), ("accuracy", 100.0)] if has_accuracy else [("loss", 1.0)]
    for axes, (quantity, scale) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        plain(axes)
        for part, color, style in (("train", COLORS[1], "--"), ("test", COLORS[0], "-")):
            records = [record[f"{part}_{quantity}"] for record in history]
            if None in records:  # mixed samples have no accuracy in training
                continue
            values = [scale * value for value in records]
            epochs = [record["epoch"] for record in history]
            axes.plot(epochs, values, style, color=color, label=part, marker="o" if len(values) < 5 else None)
        axes.set(xlabel="epoch", ylabel=f"{quantity}{' in %' if scale > 1 else ''}")
        axes.locator_params("x", integer=True)
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw the share of each class (row) that was taken for another (column), in percent of the row."""
    n, classes = len(classes), [literal(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...") for name in classes]
    size = min(2.2 + 0.42 * n, 9)
    figure = new_figure(size + 0.8, size)
    axes = figure.subplots()
    share = [[100 * count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if n <= 20:
        for i, row in enumerate(share):
            for j, value in enumerate(row):
                if value >= 0.5:
                    color = "white" if value > 60 else INK
                    axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
        axes.set_xticks(range(n), classes, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(n), classes, fontsize=7)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    axes.spines[:].set_visible(False)
    return figure


def draw_coefficients(coefficients: dict[str, list[list[float]]]) -> Figure:
    """Draw each learnable coefficient by layer, with a gap between stages."""
    figure, axes = one_panel(9, 2.4)
    for (name, stages), color in zip(coefficients.items(), COLORS, strict=False):
        first = 0
        for i, values in enumerate(stages):
            layers = range(first, first + len(values))
            axes.plot(layers, values, "o-", color=color, markersize=4, label=name if i == 0 else None)
            first += len(values) + 1
    axes.set(xlabel="layer", ylabel="value after training")
    axes.locator_params("x", integer=True)
    axes.legend(frameon=False, fontsize=8)
    return figure


def svg(figure: Figure) -> str:
    """The text of a figure as SVG, the same for the same figure, whose layout is settled by it."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "minimand"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn for it, and the page has the name
        if (engine := figure.get_layout_engine()) is not None:  # else saving draws all of it once more, for the layout
            FigureCanvasSVG(figure)
            figure.dpi = 72  # that of SVG, on which sizes of text depend
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)  # pages are dark too
    return buffer.getvalue()
