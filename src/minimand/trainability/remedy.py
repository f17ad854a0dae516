"""What repairs a network: calls where there are some, else what a person has to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from .statistics import LayerStat
from .structure import Structure

INPUT = "the input"
"""Where a verdict points when no layer is to blame."""

# From so many layers on, rectifiers make samples alike even at the right scale.
_DEEP = 20


@dataclass(frozen=True)
class Remedy:
    """Calls of `mm.initialize` and `mm.normalize`, in order; or advice."""

    calls: tuple[tuple[str, str], ...] = ()
    """Pairs such as ("initialize", "critical")."""
    advice: str = ""
    unfreeze: str = ""
    """The layer that has to be trained."""

    def __str__(self) -> str:
        batch = {"initialize": ", batch=x"}
        calls = [f'mm.{name}(model, "{argument}"{batch.get(name, "")})' for name, argument in self.calls]
        thaw = [f'model.get_submodule("{self.unfreeze}").requires_grad_(True)'] if self.unfreeze else []
        return ", then ".join([*([self.advice] if self.advice else []), *thaw, *calls])

    def apply(self, model: nn.Module, batch: Any) -> None:
        """Make the calls, in place.

        Raises:
            ValueError: there are none.
        """
        if not self.calls:
            raise ValueError(f"nothing can be repaired by a call; expected of you: {self.advice or 'nothing'}.")
        if self.unfreeze:
            model.get_submodule(self.unfreeze).requires_grad_(True)
        for name, argument in self.calls:
            function = getattr(import_module(f"minimand.trainability.{name}"), name)
            function(model, argument, **({"batch": batch} if name == "initialize" else {}))


def remedy(code: str, layer: str | None, structure: Structure, stats: Sequence[LayerStat]) -> Remedy | None:
    """The remedy for a verdict's code and layer; None where nothing has to be repaired."""
    if code in ("ok", "structural_zero"):
        return None
    if layer == INPUT:
        return Remedy(advice="standardize the inputs: (x - x.mean(0)) / x.std(0).clamp_min(1e-6)")
    if code == "dead" and any(stat.cut and stat.name == layer for stat in stats):
        return Remedy(advice="give the step after it a gradient, straight through: h + (torch.sign(h) - h).detach()")
    calls = (("initialize", _scheme(code, structure)),)
    if code == "dead" and layer in structure.frozen:
        return Remedy(calls, unfreeze=layer or "")
    if structure.normalized and structure.plain and code == "exploding":
        calls = (("normalize", "none"), *calls)
    return Remedy(calls)


def _scheme(code: str, structure: Structure) -> str:
    if structure.recurrent or structure.activation in (None, "softplus"):
        return "auto"
    if not structure.plain:
        return "auto" if structure.normalized else "depth"
    if structure.activation == "sigmoid":
        return "sigmoid_recentred"
    if not structure.rectifies:
        return "critical"
    return "looks_linear" if structure.depth > _DEEP or code in ("collapsed", "fluctuation") else "kaiming"
