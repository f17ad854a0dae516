"""Diagnosis: one forward and one backward pass, a verdict why a network does not train, and what repairs it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..._support.checks import check_number
from ..._support.style import BLUE, GRID, INK, RED, new_figure
from ..._support.tables import table_text
from ...networks.kinds import check_model
from ..measure.layer_stat import LayerStat
from ..measure.statistics import LossChoice, as_function, measure
from ..measure.tracing import broken_parameters, explained
from ..spectrum import curvature as curvatures, jacobian as jacobians
from .expected import Product, as_product, with_theory
from .remedy import Structure, freed_by_moving_zeros, remedy
from .verdict import Verdict, judge, judge_layer, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 24


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

    def rows(self) -> list[list[str]]:
        """The rows of the table, one a layer, as text."""
        rows = []
        for s, v in zip(self.layers, self.verdicts, strict=True):
            numbers = (s.second_moment, s.batch_std, s.cosine, s.gradient, s.chi, s.expected_chi)
            measured = [*map(_number, numbers), _percent(s.dead), _percent(s.saturated)]
            rows.append([label(s), s.kind, s.activation or "", *measured, "" if v.code == "ok" else v.code])
        return rows

    @staticmethod
    def columns() -> list[str]:
        """The names of the columns of `rows`."""
        names = ["layer", "kind", "then", "E h^2", "batch std", "cosine", "E g^2", "chi", "theory"]
        return [*names, "dead", "saturated", "verdict"]

    def __str__(self) -> str:
        rows, note = self.rows(), ""
        if len(rows) > _SHOWN:
            shown = sorted({round(i * (len(rows) - 1) / (_SHOWN - 1)) for i in range(_SHOWN)})
            rows, note = [rows[i] for i in shown], f"{_SHOWN} of {len(rows)} layers\n"
        title = f"{self.model}, {self.samples} samples"
        return table_text(self.columns(), rows, title, "\n".join([f"{note}{self.verdict}", *self._extras()]), labels=3)

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
        """The report as plain values; None where a number is not known."""
        layers = [asdict(s) | {"verdict": v.code} for s, v in zip(self.layers, self.verdicts, strict=True)]
        keys = ("code", "severity", "layer", "evidence", "reason", "action")
        whole = {key: getattr(self.verdict, key) for key in keys}
        extras = {"jacobian": self.jacobian, "curvature": None if self.curvature is None else asdict(self.curvature)}
        return _plain({"model": self.model, "samples": self.samples, "verdict": whole, "layers": layers, **extras})

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
            axes.plot(range(len(stats)), measured, ".-", color=BLUE, markersize=4, label="measured")
            if not all(map(math.isnan, expected)):
                axes.plot(range(len(stats)), expected, "--", color=RED, label="mean field")
            if name != "cosine between samples" and any(value > 0 for value in measured):
                axes.set_yscale("log")
            axes.set_xlabel("layer", fontsize=8)
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
    check_number("probes", probes, 1, math.inf, whole=True)
    with explained(model, batch):
        measured = measure(model, batch, loss, target, probes)
    structure = Structure.of(model, measured)
    blocked = frozenset(i for i, s in enumerate(measured.layers[:-1]) if s.blocked)
    freed = freed_by_moving_zeros(model, batch, blocked) if blocked else frozenset()
    stats = with_theory(measured, structure) if theory else measured.layers
    verdict = judge(stats, structure, freed, next(iter(broken_parameters(model)), None))
    verdict = replace(verdict, remedy=remedy(verdict.code, verdict.layer, structure, stats))
    verdicts = tuple(judge_layer(i, stats, structure, freed) for i in range(len(stats)))
    report = TrainabilityReport(type(model).__name__, measured.samples, stats, verdicts, verdict, structure)
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
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.0f} %"


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
