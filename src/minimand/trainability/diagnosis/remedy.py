"""Remedies: the calls that repair a network of a structure, or what a person has to change."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..._support.errors import MinimandError
from ...layers.thresholds import Threshold
from ...networks.kinds import RECURRENT, has_normalization
from ...surgery.normalize import normalize
from ..initialization.initialize import initialize
from ..initialization.schemes.critical import point_for
from ..mean_field.depth_scales import beta_of, depth_scales
from ..measure.layer_stat import LIMIT, LayerStat, Measured
from ..measure.statistics import measure

INPUT = "the input"
"""The name in place of a layer where a verdict blames the input."""

# From so many layers on, rectifiers make samples alike even at the right scale.
_DEEP = 20
# Depth scales of angles that a network can be deep; for hard thresholds, as the others have none at the edge of chaos.
_REACH = 6
_RECTIFIERS = ("relu", "leaky_relu", "prelu", "rrelu", "relu6")
_PERTURBATION, _ROUNDS = 1e-3, 6


@dataclass(frozen=True)
class Structure:
    """The structure of a network: its skips, normalization, activation, depth and width."""

    plain: bool
    """Whether each layer reads what one other gave, so that there are no skips."""
    recurrent: bool
    normalized: bool
    activation: str | None
    function: Callable[[torch.Tensor], torch.Tensor] | None
    """The most frequent activation as a function; `activation` is its name."""
    depth: int
    beta: float
    """The sum of 1 / width over the layers that ran, as `fluctuation_beta` has it."""
    frozen: frozenset[str]
    """The layers of which no parameter is trained."""

    @property
    def limit(self) -> float:
        """The limit of the logarithm of a growth: beside skips, normalization gives each weight its own step size."""
        return LIMIT if self.plain or not self.normalized else 2 * LIMIT

    @property
    def rectifies(self) -> bool:
        """Whether the activation is ReLU or its like."""
        return self.activation in _RECTIFIERS

    @classmethod
    def of(cls, model: nn.Module, measured: Measured) -> "Structure":
        """The structure of a model as its layers ran."""
        calls = measured.trace.calls
        functions = {call.activation.name: call.activation.function for call in calls if call.activation}
        kinds = Counter(call.activation.name for call in calls if call.activation)
        activation = max(kinds, key=lambda name: kinds[name], default=None)
        modules = list(model.modules())
        return cls(
            plain=not measured.trace.sums
            and all(len(call.after) <= 1 for call in calls)
            and not any(isinstance(m, nn.MultiheadAttention) for m in modules),
            recurrent=any(isinstance(m, RECURRENT) for m in modules),
            normalized=has_normalization(model) or any("Norm" in type(m).__name__ for m in modules),
            activation=activation,
            function=None if activation is None else functions[activation],
            depth=len(measured.layers),
            beta=beta_of([call.module for call in calls]),
            frozen=frozenset(c.name for c in calls if not any(p.requires_grad for p in c.module.parameters())),
        )


def freed_by_moving_zeros(model: nn.Module, batch: Any, blocked: frozenset[int]) -> frozenset[int]:
    """The layers without gradient that have one as soon as tensors that are all zero move, of those `blocked`.

    Only tensors that have a gradient are moved, as training would, by 1e-3; then again, until nothing new moves. So a
    zero that starts a branch is told from one that training never leaves.
    """
    zeros = [p for p in model.parameters() if p.requires_grad and p.numel() and not bool(p.any())]
    with torch.no_grad(), ExitStack() as put_back:
        for p in zeros:
            put_back.callback(p.zero_)
        for _ in range(_ROUNDS if zeros else 0):
            measured = measure(model, batch, at_output=True)
            alive = [p for p in zeros if measured.gradients.get(p, 0.0) > 0 and not bool(p.any())]
            still_blocked = {i for i in blocked if measured.layers[i].blocked}
            if not alive or not still_blocked:
                return frozenset(blocked - still_blocked)
            for i, p in enumerate(alive):
                noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
                p.add_(noise.to(p), alpha=_PERTURBATION)
    return frozenset()


@dataclass(frozen=True)
class Remedy:
    """Calls of `mm.initialize` and `mm.normalize` that repair a network, in order; or advice."""

    calls: tuple[tuple[str, str], ...] = ()
    """The calls as pairs such as ("initialize", "critical")."""
    advice: str = ""
    unfreeze: str = ""
    """The frozen layer that has to be trained."""

    def __str__(self) -> str:
        steps = [self.advice] if self.advice else []
        if self.unfreeze:
            steps.append(f'model.get_submodule("{self.unfreeze}").requires_grad_(True)')
        for name, argument in self.calls:
            batch = ", batch=x" if name == "initialize" else ""
            steps.append(f'mm.{name}(model, "{argument}"{batch})')
        return ", then ".join(steps)

    def apply(self, model: nn.Module, batch: Any) -> None:
        """Make the calls on a model, in place; where there are none that is an error."""
        if not self.calls:
            raise MinimandError(f"nothing can be repaired by a call; expected of you: {self.advice or 'nothing'}.")
        if self.unfreeze:
            model.get_submodule(self.unfreeze).requires_grad_(True)
        for name, argument in self.calls:
            if name == "initialize":
                initialize(model, argument, batch=batch)
            else:
                normalize(model, argument)


def remedy(code: str, layer: str | None, structure: Structure, stats: Sequence[LayerStat]) -> Remedy | None:
    """The remedy for a verdict's code and layer; None where nothing has to be repaired."""
    if code in ("ok", "structural_zero"):
        return None
    if layer == INPUT:
        return Remedy(advice="standardize the inputs: (x - x.mean(0)) / x.std(0).clamp_min(1e-6)")
    if code == "dead" and any(stat.cut and stat.name == layer for stat in stats):
        return Remedy(advice="give the step after it a gradient, straight through: h + (torch.sign(h) - h).detach()")
    scheme = _scheme(code, structure)
    if scheme == "critical" and (advice := _no_weights_will_do(structure)):
        return Remedy(advice=advice)
    calls = (("initialize", scheme),)
    if code == "dead" and layer in structure.frozen:
        return Remedy(calls, unfreeze=layer or "")
    if structure.normalized and structure.plain and code in ("exploding", "vanishing"):
        calls = (("normalize", "none"), *calls)
    return Remedy(calls)


def _no_weights_will_do(structure: Structure) -> str | None:
    """The change to make where the edge of chaos is no way out: there is none, or angles are lost on it."""
    phi = structure.function
    assert phi is not None
    try:
        point = point_for(phi, None, structure.depth)
    except (ValueError, TypeError):
        return f"normalize before each {structure.activation}, or use gelu, silu, mish or tanh instead"
    reach = _REACH * depth_scales(phi, point.sigma_w, point.sigma_b).xi_c if isinstance(phi, Threshold) else math.inf
    if structure.depth <= reach:
        return None
    return f"add skips: {structure.activation} carries what tells samples apart over about {reach:.0f} layers"


def _scheme(code: str, structure: Structure) -> str:
    if structure.recurrent or structure.activation is None:
        return "auto"
    if not structure.plain:
        return "auto" if structure.normalized else "depth"
    if structure.activation == "sigmoid":
        return "sigmoid_recentred"
    if not structure.rectifies:
        return "critical"
    return "looks_linear" if structure.depth > _DEEP or code in ("collapsed", "fluctuation") else "kaiming"
