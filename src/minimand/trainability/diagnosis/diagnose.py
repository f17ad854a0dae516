"""Diagnosis: one forward and one backward pass, a verdict why a network does not train, and what repairs it."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..._support.checks import check_number
from ..._support.style import BLUE, GRID, INK, RED, new_figure
from ..._support.tables import table_text
from ..._support.torch.internals import uncompiled
from ...networks.kinds import check_model
from ..measure.connection import Disconnection
from ..measure.layer_stat import LayerStat
from ..measure.reading import NOT_MEASURED, Missing, Reading, number, numbers
from ..measure.statistics import LossChoice, as_function
from ..measure.tracing import explained
from ..spectrum import curvature as curvatures, jacobian as jacobians
from .examine import examine, remedy_for
from .expected import Product, as_product, with_theory
from .structure import Structure
from .verdict import Verdict, judge_layer, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 24
_LEAST_TELLING = ("theory", "kind", "E g^2", "batch std", "saturated", "then", "dead")
"""The columns to leave out where there is no room, in order."""


@dataclass(frozen=True)
class TrainabilityReport:
    """What a network does to signals, angles and gradients at its present weights, and whether it would train."""

    model: str
    samples: int
    layers: tuple[LayerStat, ...]
    """The measurements of the layers, in the order they ran."""
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    """The verdict on the whole network; `verdicts` has those on its layers."""
    structure: Structure
    jacobian: tuple[float, ...] | None = None
    """Singular values from the input to the output, largest first."""
    product: Product | None = None
    """The Jacobian as free probability knows it, where that applies."""
    curvature: curvatures.Curvature | None = None
    disconnected: tuple[Disconnection, ...] = ()
    """The trainable parameters that get no gradient from the output, and why."""

    def rows(self) -> list[list[str]]:
        """The rows of the table, one a layer, as text."""
        rows = []
        for s, v in zip(self.layers, self.verdicts, strict=True):
            readings = (s.second_moment, s.batch_std, s.cosine, s.gradient, s.chi, s.expected_chi)
            measured = [*map(_text, readings), _percent(s.dead), _percent(s.saturated)]
            rows.append([label(s), s.kind, s.activation or "", *measured, "" if v.code == "ok" else v.code])
        return rows

    @staticmethod
    def columns() -> list[str]:
        """The names of the columns of `rows`."""
        names = ["layer", "kind", "then", "E h^2", "batch std", "cosine", "E g^2", "chi", "theory"]
        return [*names, "dead", "saturated", "verdict"]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 110) -> str:
        """The table and the verdict within a width in characters; narrow ones leave columns out, and say which."""
        columns, rows, note = self.columns(), self.rows(), ""
        if len(rows) > _SHOWN:
            shown = sorted({round(i * (len(rows) - 1) / (_SHOWN - 1)) for i in range(_SHOWN)})
            rows, note = [rows[i] for i in shown], f"{_SHOWN} of {len(rows)} layers\n"
        rows = [[_shortened(name, max(width // 3, 8)), *rest] for name, *rest in rows]
        left_out = []
        for name in (name for name in _LEAST_TELLING if name in columns):
            if _wide(columns, rows) <= width:
                break
            at = columns.index(name)
            left_out.append(name)
            columns, rows = columns[:at] + columns[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
        if left_out:
            note += f"not shown for lack of width: {', '.join(left_out)}\n"
        labels = sum(name in ("layer", "kind", "then") for name in columns)
        lines = [f"{note}{self.verdict}", *self._extras()]
        below = "\n".join(
            textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            for line in "\n".join(lines).splitlines()
        )
        title = f"{self.model}, {self.samples} samples"
        return table_text(columns, rows, title, labels=labels) + f"\n{below}"

    def _extras(self) -> list[str]:
        lines = []
        if self.jacobian is not None:
            square = sum(v**2 for v in self.jacobian) / max(len(self.jacobian), 1)
            ends = f"{self.jacobian[0]:.3g} to {self.jacobian[-1]:.3g}" if self.jacobian else "none"
            lines.append(f"singular values of the Jacobian: {ends}, mean square {square:.3g}")
        if self.curvature is not None:
            c = self.curvature
            lines.append(f"tangent kernel: condition {c.kernel_condition:.3g}, largest step {c.largest_step:.3g}")
            if c.hessian:
                lines.append(f"Hessian: {c.hessian[0]:.3g} to {c.hessian[1]:.3g}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; None where nothing was measured, and text for what JSON has no number for."""
        layers = [asdict(s) | {"verdict": v.code} for s, v in zip(self.layers, self.verdicts, strict=True)]
        keys = ("code", "severity", "layer", "evidence", "reason", "action")
        whole = {key: getattr(self.verdict, key) for key in keys}
        extras = {"jacobian": self.jacobian, "curvature": None if self.curvature is None else asdict(self.curvature)}
        disconnected = [asdict(one) for one in self.disconnected]
        plain = {"model": self.model, "samples": self.samples, "verdict": whole, "layers": layers}
        return _plain({**plain, "disconnected": disconnected, **extras})

    def plot(self) -> "Figure":
        """A figure of second moment, cosine, gradient and, if measured, Jacobian; theory dashed (extra `plots`)."""
        figure, stats = new_figure(11, 3.2), self.layers
        figure.suptitle(f"{self.model}: {self.verdict.code}", fontsize=11, color=INK)
        panels = [
            ("E h²", [s.second_moment for s in stats], [s.expected_second_moment for s in stats]),
            ("cosine between samples", [s.cosine for s in stats], [s.expected_cosine for s in stats]),
            ("squared gradient", [s.read_gradient for s in stats], _expected_gradient(stats)),
        ]
        places = figure.subplots(1, 4 if self.jacobian else 3)
        for axes, (name, measured, expected) in zip(places, panels, strict=False):
            axes.plot(range(len(stats)), _points(measured), ".-", color=BLUE, markersize=4, label="measured")
            if numbers(expected):
                axes.plot(range(len(stats)), _points(expected), "--", color=RED, label="mean field")
            if name != "cosine between samples" and any(value > 0 for value in numbers(measured)):
                axes.set_yscale("log")
            axes.set_xlabel("layer", fontsize=8)
            axes.locator_params("x", integer=True)
            _finish(axes, name)
        if self.jacobian:
            _histogram(places[-1], np.array(self.jacobian), self.product)
        return figure


def diagnose(
    model: nn.Module,
    batch: Any,
    *,
    loss: LossChoice | None = None,
    target: Any = None,
    probes: int = 1,
    theory: bool = True,
    jacobian: bool = False,
    curvature: bool = False,
) -> TrainabilityReport:
    """Say whether a network would train from its present weights, why not, and what repairs it.

    The network runs with dropout off and normalization by the batch. Its mode, buffers, gradients and torch's random
    state are left as they were, and no hook stays.

    Args:
        model: any module with a linear, convolutional, attention or recurrent layer.
        batch: what it is called with: a tensor, a tuple or list of positional, or a mapping of named, arguments. Angles
            need two samples or more.
        loss: "cross_entropy", "mse" or a function of (outputs, target), or of the outputs where there is no target:
            then its gradients are measured as well. By default what suits the target.
        target: what the outputs should be.
        probes: how many random vectors are sent back; more make `chi` more exact.
        theory: also say what mean-field theory expects of a plain network, which takes longer than measuring it.
        jacobian: also find singular values of the Jacobian of the first sample, in eval mode, from its first
            floating-point input, or what the first embedding makes of its tokens.
        curvature: also find the largest step by the tangent kernel and, with a target, the ends of the Hessian's
            spectrum (extra `curvature`); of a batch that is one tensor.
    """
    check_model(model)
    model = uncompiled(model)
    check_number("probes", probes, 1, math.inf, whole=True)
    with explained(model, batch):
        measured, evidence, verdict = examine(model, batch, loss, target, probes)
    structure = evidence.structure
    if theory:
        evidence = replace(evidence, stats=with_theory(measured, structure))
    verdict = replace(verdict, remedy=remedy_for(verdict, evidence, model, batch))
    verdicts = tuple(judge_layer(i, evidence) for i in range(len(evidence.stats)))
    report = TrainabilityReport(
        type(model).__name__,
        measured.samples,
        tuple(evidence.stats),
        verdicts,
        verdict,
        structure,
        disconnected=tuple(evidence.disconnected),
    )
    if jacobian:
        values = jacobians.at_first_sample(model, batch, measured.samples)
        report = replace(report, jacobian=values, product=as_product(measured, structure))
    if curvature:
        of_target = None if target is None else as_function(loss, target)
        report = replace(report, curvature=curvatures.curvature(model, batch, of_target, target))
    return report


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return None if value is NOT_MEASURED else value.value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(reading: Reading) -> str:
    if isinstance(reading, Missing):
        return "" if reading is NOT_MEASURED else "none"
    return f"{reading:.3g}"


def _percent(reading: Reading) -> str:
    return _text(reading) if isinstance(reading, Missing) else f"{100 * reading:.0f} %"


def _points(readings: Sequence[Reading]) -> list[float]:
    """Readings to draw; matplotlib leaves a gap for what is NaN."""
    return [number(reading, math.nan) for reading in readings]


def _shortened(name: str, length: int) -> str:
    """A name of at most a length: its words as their first letters, from the left; without its middle if need be.

    Numbers stay, as they tell layers apart: `b.0.l.3.block.inner.qkv`.
    """
    words = name.split(".")
    for i, word in enumerate(words[:-1]):
        if len(".".join(words)) > length and not word.isdigit():
            words[i] = word[:1]
    name = ".".join(words)
    return name if len(name) <= length else f"{name[: (length - 1) // 2]}…{name[-(length // 2) :]}"


def _wide(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The width of a table in characters."""
    return sum(max(map(len, cells)) for cells in zip(columns, *rows, strict=True)) + 2 * len(columns)


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


def _expected_gradient(stats: Sequence[LayerStat]) -> list[Reading]:
    """The gradients from the last layer, where they start, backwards through the factors that theory expects."""
    gradients: list[Reading] = [NOT_MEASURED] * len(stats)
    value = stats[-1].read_gradient
    for i in range(len(stats) - 2, -1, -1):
        chi = stats[i].expected_chi
        if isinstance(chi, Missing) or isinstance(value, Missing):
            break
        gradients[i + 1], value = value, value * chi
        gradients[i] = value
    return gradients
