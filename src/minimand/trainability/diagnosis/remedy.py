"""Remedies: the calls that repair a network of a structure, with the rate to train it at, or what to change by hand."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..._support.errors import MinimandError
from ...layers.thresholds import Threshold
from ...recipes.optimizers import Adam
from ...surgery.normalize import normalize
from ..initialization.initialize import initialize
from ..initialization.schemes.critical import point_for
from ..mean_field.depth_scales import depth_scales
from ..measure.layer_stat import LayerStat
from .structure import Structure

# From so many layers on, rectifiers make samples alike even at the right scale.
_DEEP = 20
# Depth scales of angles that a network can be deep; for hard thresholds, as the others have none at the edge of chaos.
_REACH = 6
# A step of Adam moves every layer by its rate, and what it does to the output adds up over the layers.
_RATE, _RATE_TIMES_DEPTH = 1e-3, 0.012


@dataclass(frozen=True)
class Remedy:
    """Calls of `mm.initialize` and `mm.normalize` that repair a network, in order; or advice."""

    calls: tuple[tuple[str, str], ...] = ()
    """The calls as pairs such as ("initialize", "critical")."""
    advice: str = ""
    unfreeze: str = ""
    """The frozen layer that has to be trained."""
    optimizer: Adam | None = None
    """What the repaired network is to be trained with: the remedy was derived, and is tested, for this rate."""

    def __str__(self) -> str:
        steps = [self.advice] if self.advice else []
        if self.unfreeze:
            steps.append(f'model.get_submodule("{self.unfreeze}").requires_grad_(True)')
        for name, argument in self.calls:
            batch = ", batch=x" if name == "initialize" else ""
            steps.append(f'mm.{name}(model, "{argument}"{batch})')
        if self.optimizer is not None:
            steps.append(f"train with mm.Adam({self.optimizer.lr:g})")
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


def repairs(code: str, layer: str | None, structure: Structure, stats: Sequence[LayerStat]) -> Iterator[Remedy]:
    """What may repair a verdict's code and layer by calls, the likeliest first; or advice, which nothing follows."""
    if code == "dead" and any(stat.cut and stat.name == layer for stat in stats):
        advice = "give the step after it a gradient, straight through: h + (step(h) - h).detach()"
        yield Remedy(advice=advice)
        return
    scheme = _scheme(code, structure)
    if scheme == "critical" and (advice := _no_weights_will_do(structure)):
        yield Remedy(advice=advice)
        return
    unfreeze = layer or "" if code == "dead" and layer in structure.frozen else ""
    optimizer = Adam(float(f"{min(_RATE, _RATE_TIMES_DEPTH / max(structure.depth, 1)):.1g}"))
    calls = (("initialize", scheme),)
    first = Remedy(calls, unfreeze=unfreeze, optimizer=optimizer)
    if structure.normalized and structure.plain and code in ("exploding", "vanishing"):
        yield replace(first, calls=(("normalize", "none"), *calls))
    yield first
    others = ("kaiming", "looks_linear") if structure.rectifies and structure.plain else ("auto",)
    for other in others:
        if other != scheme:
            yield replace(first, calls=(("initialize", other),))


def no_repair(code: str, structure: Structure) -> Remedy:
    """The advice where no call helps."""
    advice = "no weights that this package knows repair it; look at the layer named and what is done around it"
    if code in ("collapsed", "vanishing", "exploding") and not structure.has_skips:
        advice = "add skips, x + f(norm(x)): no weights that this package knows repair it without"
    return Remedy(advice=advice)


def of_input(structure: Structure) -> Remedy:
    """The advice where the input is to blame."""
    if structure.reads_tokens:
        advice = (
            "tell tokens apart: draw their embedding wider, nn.init.normal_(embedding.weight), and positions narrower; "
            "or give a batch whose samples share fewer tokens"
        )
        return Remedy(advice=advice)
    if structure.reads_numbers:
        return Remedy(advice="standardize the inputs: (x - x.mean(0)) / x.std(0).clamp_min(1e-6)")
    return Remedy(advice="normalize what the first layer reads: what its samples share is large")


def of_tokens(structure: Structure) -> Remedy | None:
    """The advice where attention has made tokens alike; None where there are skips."""
    if structure.has_skips:
        return None
    return Remedy(advice="add skips around attention and around what follows it: x = x + attention(norm(x))")


def of_nan(function: str | None) -> Remedy:
    """The advice where the gradient is NaN and the output is not."""
    name = (function or "the function").lower()
    advice = (
        f"keep what {name} reads away from where it has no finite slope, also in places whose result is not used: "
        "torch.where(x > 0, x.clamp_min(1e-12).sqrt(), 0)"
    )
    return Remedy(advice=advice)


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
