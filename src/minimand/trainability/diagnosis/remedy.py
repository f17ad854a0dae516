"""Remedies: the calls that repair a network, or what a person has to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..._support.errors import MinimandError
from ...layers.thresholds import Threshold
from ...surgery.normalize import normalize
from ..initialization.initialize import initialize
from ..initialization.schemes.critical import point_for
from ..mean_field.depth_scales import depth_scales
from ..measure.layer_stat import LayerStat
from ..measure.structure import Structure

INPUT = "the input"
"""The name in place of a layer where a verdict blames the input."""

# From so many layers on, rectifiers make samples alike even at the right scale.
_DEEP = 20
# Depth scales of angles that a network can be deep; for hard thresholds, as the others have none at the edge of chaos.
_REACH = 6


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
        """Make the calls on a model, in place.

        Raises:
            ValueError: there are no calls.
        """
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
    try:
        point = point_for(phi, None, structure.depth) if phi is not None else None
    except (ValueError, TypeError):
        point = None
    if phi is None or point is None:
        return f"normalize before each {structure.activation}, or use gelu, silu, mish or tanh instead"
    if not isinstance(phi, Threshold):
        return None
    reach = _REACH * depth_scales(phi, point.sigma_w, point.sigma_b).xi_c
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
