"""Certificates and rates as pictures (extra `plots`)."""

import math
from collections.abc import Hashable, Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from .._support.style import BLUE, GRID, INK, RED, new_figure
from ..algorithms import is_map
from .dynamics.linear_system import Pole
from .kernel import INPUT, Kernel, Query
from .scalars import TOLERANCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .certificate import Certificate
    from .dynamics.gains import Gains
    from .dynamics.region import StabilityRegion

_DRAWN_LAYERS = 6
_FINENESS = 121  # points on either axis at which a stability region is computed
_LINE = 110  # characters of a title
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def draw_certificate(certificate: "Certificate") -> "Figure":
    """Draw poles in the unit disc, the stability region, gains by layer, and what each query of a network reads."""
    kernel, title = certificate.kernel, certificate.title
    figure = new_figure(13, 3.4)
    figure.suptitle(fill(title, _LINE), fontsize=11 if len(title) <= _LINE else 8, color=INK)
    pole_axes, region_axes, gain_axes, wiring_axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.3, 1.5))
    why = (
        "a part of the state\nis normalized: no poles" if kernel.maps else "the coefficients vary\nwith depth: no poles"
    )
    _draw_poles(pole_axes, certificate.poles, certificate.zero_stable is True, why)
    if certificate.region is None:
        region_axes.set_axis_off()
    else:
        _draw_region(region_axes, certificate.region)
    _draw_gains(gain_axes, certificate.gains)
    _draw_wiring(wiring_axes, kernel)
    for axes in (pole_axes, region_axes, gain_axes):
        axes.tick_params(colors=INK, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def shown(certificate: "Certificate") -> str:
    """A text that two certificates have in common only if their figures are the same."""
    kernel = certificate.kernel
    points = [(query.answer, query.point) for query in _drawn(kernel)]
    read = [(atom, {a: float(c) for a, c in point.terms.items()}) for atom, point in [*points, ("", kernel.output)]]
    return repr((certificate, read))


def draw_region(region: "StabilityRegion") -> "Figure":
    """Draw a stability region in the complex plane of mu, for x' = mu x."""
    figure = new_figure(4.2, 4)
    figure.suptitle(fill(region.title, 60), fontsize=9, color=INK)
    _draw_region(figure.subplots(), region)
    return figure


def draw_rates(momenta: Sequence[float], bounds: Sequence[float | None], title: str, quantity: str) -> "Figure":
    """Draw bounds of a quantity against the momentum, with gaps where there is none."""
    figure = new_figure(5.5, 3.4)
    axes = figure.subplots()
    axes.plot(momenta, [math.nan if bound is None else bound for bound in bounds], "o-", color=BLUE, markersize=4)
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel("momentum", color=INK)
    axes.set_ylabel(f"worst {quantity}", color=INK)
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_poles(axes: "Axes", poles: Sequence[Pole] | None, is_stable: bool, why_none: str) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, fill=False, color=GRID, linewidth=1.5))
    axes.axhline(0, color=GRID, linewidth=0.8, zorder=0)
    axes.axvline(0, color=GRID, linewidth=0.8, zorder=0)
    axes.set(aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.set_title("poles in the unit disc", fontsize=9, color=INK)
    if poles is None:
        axes.text(0, 0.3, why_none, ha="center", fontsize=8, color=INK)
        return
    color = BLUE if is_stable else RED
    for pole in poles:
        x, y = pole.value.real, pole.value.imag
        axes.plot(x, y, "x", color=color, markersize=9, markeredgewidth=2)
        if pole.multiplicity > 1:
            axes.annotate(f"x{pole.multiplicity}", (x, y), (6, 6), textcoords="offset points")


def _draw_region(axes: "Axes", region: "StabilityRegion") -> None:
    left, right, bottom, top = region.view
    real, imaginary = np.meshgrid(np.linspace(left, right, _FINENESS), np.linspace(bottom, top, _FINENESS))
    radii = np.minimum(region.radius(real + 1j * imaginary), 10)
    axes.contourf(real, imaginary, radii, levels=[-1, 1 + TOLERANCE], colors=[BLUE], alpha=0.25)
    if (radii > 1 + TOLERANCE).any() and (radii < 1).any():
        axes.contour(real, imaginary, radii, levels=[1 + TOLERANCE], colors=[BLUE], linewidths=1.2)
    axes.axhline(0, color=GRID, linewidth=0.8, zorder=0)
    axes.axvline(0, color=GRID, linewidth=0.8, zorder=0)
    axes.set(aspect="equal", xlim=(left, right), ylim=(bottom, top))
    axes.set_title(f"x' = mu x stays bounded\n{region}", fontsize=8, color=INK)
    axes.set_xlabel("Re mu", fontsize=8, color=INK)


def _draw_gains(axes: "Axes", gains: "Gains") -> None:
    named = gains if isinstance(gains, dict) else {"": gains}
    width = 0.8 / len(named)
    for i, by_layer in enumerate(named.values()):
        positions = [k + (i - (len(named) - 1) / 2) * width for k in range(len(by_layer))]
        axes.bar(positions, by_layer, width, color=(BLUE, RED, INK)[i % 3])
    axes.axhline(0, color=INK, linewidth=0.8)
    names = ", ".join(f"{color} {name}" for color, name in zip(cycle(("blue", "red", "black")), named, strict=False))
    of_what = f"answer in the output\n({names})" if len(named) > 1 else "block in the output"
    axes.set_title(f"gain of each layer's {of_what}", fontsize=9, color=INK)
    axes.set_xlabel("layer", fontsize=8, color=INK)
    axes.locator_params("x", integer=True)


def _draw_wiring(axes: "Axes", kernel: Kernel) -> None:
    """Layers in a row; an arc for every earlier answer that a query reads, as thick as its coefficient."""
    queries = _drawn(kernel)
    place: dict[Hashable, float] = {q.answer: 1.4 * (i + 1) for i, q in enumerate(queries)}
    ends = [(q.point, place[q.answer]) for q in queries]
    cut = len(queries) < len(kernel.queries)
    if not cut:
        ends.append((kernel.output, 1.4 * (len(queries) + 1)))
    inputs = sorted({a for point, _ in ends for a in point.terms if isinstance(a, str)}, key=lambda a: a != INPUT)
    place |= {atom: -1.4 * i for i, atom in enumerate(inputs)}
    largest = max((abs(float(c)) for point, _ in ends for c in point.terms.values()), default=1.0)
    for point, end in ends:
        for atom, c in point.terms.items():
            start = place[atom]
            strength = abs(float(c)) / largest
            arrow = {
                "arrowstyle": "-|>",
                "connectionstyle": f"arc3,rad={-0.5 if end - start > 1.5 else 0}",
                "color": RED if float(c) < 0 else BLUE,
                "linewidth": 0.4 + 2 * strength,
                "alpha": 0.35 + 0.6 * strength,
            }
            axes.annotate("", (end - 0.2, 0), (start + 0.2, 0), arrowprops=arrow)
    nodes = [(atom, place[atom]) for atom in inputs]
    nodes += [(_node(q).translate(_SUBSCRIPTS), place[q.answer]) for q in queries]
    if not cut:
        nodes.append(("out", 1.4 * (len(queries) + 1)))
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": INK, "linewidth": 0.8}
    for name, x in nodes:
        axes.text(x, 0, name, ha="center", va="center", fontsize=8, color=INK, bbox=box)
    last = nodes[-1][1]
    axes.set(xlim=(min(place.values(), default=0.0) - 0.6, last + 0.6), ylim=(-0.6, 0.32 * last), xticks=(), yticks=())
    axes.spines[:].set_visible(False)
    what = f"what the first {_DRAWN_LAYERS} blocks read" if cut else "what each block reads"
    axes.set_title(f"{what} (blue adds, red subtracts)", fontsize=9, color=INK)


def _drawn(kernel: Kernel) -> list[Query]:
    return [query for query in kernel.queries if query.answer.layer < _DRAWN_LAYERS]


def _node(query: Query) -> str:
    """A block as T and its layer, a known map as N."""
    return f"{'N' if is_map(query.answer.oracle) else 'T'}{query.answer.layer}"
