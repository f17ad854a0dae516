"""Steps in the place of the activations of any model."""

import copy
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch_internals import ConvNd
from ..layers.thresholds import Threshold, threshold_text
from ..layers.weight_bits import CAN_HAVE_FEW_BITS, FewBitLayer, check_bits, few_bit_weight
from ..networks.kinds import ACTIVATIONS


@dataclass(frozen=True)
class Hardening:
    """What `harden` did to a model."""

    model: nn.Module = field(repr=False)
    activations: dict[str, str]
    """What was there, by the name of each module that is a threshold now."""
    weights: tuple[str, ...]
    """The layers whose weights have few bits now."""

    def __str__(self) -> str:
        lines = [f"{name}: {kind}" for name, kind in self.activations.items()]
        lines += [f"{name}: weight of few bits" for name in self.weights]
        return "\n".join([f"thresholds in the place of {len(self.activations)} activations", *lines])


def harden(model: nn.Module, activation: Threshold, weight_bits: int | None = None) -> Hardening:
    """Put a threshold in the place of every activation module of a model, in place, after residual sums too.

    What goes into the first layer and comes out of the last one stays real. Activations that a model of somebody else
    calls as functions are not seen.

    Args:
        model: any module.
        activation: such as `mm.Sign()`; each place gets one of its own.
        weight_bits: 1, 2, 4 or 8 bits for the weights of all linear and convolutional layers but the first and the
            last, learned by the real weights behind them; None leaves them real.

    Raises:
        ValueError: nothing to change, which lists what was looked for; another number of bits.
    """
    if not isinstance(activation, Threshold):
        raise WrongTypeError(
            f"activation is {activation!r}; expected a threshold such as mm.Sign(), mm.Heaviside(), "
            "which is the step from 0 to 1, mm.QuantizedReLU() or mm.Staircase(steps)."
        )
    if weight_bits is not None:
        check_bits(weight_bits)
    found = {name: m for name, m in model.named_modules(remove_duplicate=False) if type(m) in ACTIVATIONS}
    if not found or "" in found:
        kinds = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise MinimandError(
            f"{type(model).__name__} has no activation to harden; looked for modules of torch.nn inside it: {kinds}. "
            "Activations called as functions have to be made modules first."
        )
    new: dict[nn.Module, nn.Module] = {}  # one object that is used twice stays one
    for name, module in found.items():
        new.setdefault(module, copy.deepcopy(activation).train(module.training))
        model.set_submodule(name, new[module])
    rounded = [] if weight_bits is None else rounding(model, weight_bits, activation.unit)
    return Hardening(model, {name: str(m) for name, m in found.items()}, tuple(rounded))


def hardened(model: nn.Module) -> dict[str, str | int]:
    """The arguments of `mm.create_model` that make such thresholds and weights; none for a model without thresholds."""
    kinds = {threshold_text(m) for m in model.modules() if isinstance(m, Threshold)}
    bits = {m.bits for m in model.modules() if isinstance(m, FewBitLayer)}
    found: dict[str, str | int] = {"activation": " and ".join(sorted(kinds))} if kinds else {}
    return {**found, **({"weight_bits": max(bits)} if bits else {})}


def rounding(model: nn.Module, bits: int, unit: float) -> list[str]:
    """Give all linear and convolutional layers but the first and the last weights of few bits; their names.

    Those that have them already, and those whose weight is computed, stay what they are.
    """
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | ConvNd)][1:-1]
    layers = [(name, m) for name, m in layers if type(m) in CAN_HAVE_FEW_BITS and not is_parametrized(m, "weight")]
    for _, layer in layers:
        few_bit_weight(layer, bits, unit)
    return [name for name, _ in layers]
