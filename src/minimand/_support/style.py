"""How figures look: their colours, and the figures and axes that drawing begins with (extra `plots`)."""

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
else:
    Figure = Any  # matplotlib's for annotations; it is loaded when something is drawn

INK, GRID = "#1f2328", "#d0d7de"
COLORS = ("#1f6feb", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#0a7ea4", "#bf3989", "#57606a")
BLUE, RED = COLORS[:2]
PALETTE = {
    "light": {"ink": INK, "page": "#ffffff", "grid": GRID, "faint": "#57606a", "code": "#f6f8fa", "link": "#0a58ca"},
    "dark": {
        "ink": "#e6edf3",
        "page": "#0d1117",
        "grid": "#30363d",
        "faint": "#9198a1",
        "code": "#161b22",
        "link": "#58a6ff",
    },
}
"""The colors of a page, by light and dark."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, which needs no display."""
    require("matplotlib", "plots", "to draw figures")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def one_panel(width: float, height: float) -> tuple[Figure, Any]:
    """An empty figure of a size in inches with one panel, and the panel's axes."""
    figure = new_figure(width, height)
    return figure, plain(figure.subplots())


def plain(axes: Any) -> Any:
    """Axes with no frame at the top and the right and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8)
    return axes


def draw_mean_and_range(
    axes: Any,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    color: str,
    label: str | None = None,
    style: str = "o-",
    alpha: float = 0.12,
    center: Callable[[Sequence[float]], float] = statistics.mean,
) -> None:
    """Draw a line in matplotlib's `style` through the centers of the values at each x, and a band over their range.

    `values` has those of each seed, for each position; `alpha` is the opacity of the band.
    """
    axes.plot(x, list(map(center, values)), style, color=color, markersize=3, label=label)
    axes.fill_between(x, list(map(min, values)), list(map(max, values)), color=color, alpha=alpha)


def legend_below(figure: Figure, columns: int = 1, side: Literal["left", "center"] = "left") -> None:
    """Put one legend for all panels of a figure below them; its lines are those of the first panel."""
    lines, labels = figure.axes[0].get_legend_handles_labels()
    loc: Any = f"outside lower {side}"
    figure.legend(lines, labels, loc=loc, ncols=columns, frameon=False, fontsize=8)


def literal(text: str) -> str:
    """Text for a figure that is drawn as it is: dollars are no formulas, and what is no UTF-8 has its code."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
