"""How figures look: their colours, and the figures and axes that drawing begins with (extra `plots`)."""

from typing import TYPE_CHECKING, Any

from .extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GRID = "#1f2328", "#d0d7de"
COLORS = ("#1f6feb", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#0a7ea4", "#bf3989", "#57606a")
BLUE, RED = COLORS[:2]


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches, which needs no display."""
    require("matplotlib", "plots", "to draw figures")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axes: Any) -> Any:
    """Axes with no frame at the top and the right and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8)
    return axes
