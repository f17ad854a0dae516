"""Steps in the place of the activations of any model."""

import copy
from typing import cast

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .._support.errors import MinimandError
from ..layers.thresholds import Threshold, as_threshold, threshold_text
from ..layers.weight_bits import FEW_BIT_LAYERS, FewBitLayer, check_bits, few_bit_weight
from ..networks.kinds import ACTIVATIONS, LINEAR_OR_CONVOLUTION
from .changes import Change, Model, move_like


class Hardened(Change):
    """A record of `harden`: the activations that are thresholds now, and the layers whose weights have few bits."""

    def __init__(self, model: nn.Module, activations: dict[str, nn.Module], layers: dict[str, nn.Module]) -> None:
        super().__init__(model)
        self._activations, self._layers = activations, layers
        self.activations = {name: str(activation) for name, activation in activations.items()}
        self.weights = tuple(layers)

    def _restore(self) -> None:
        for activation in self._activations.values():
            move_like(activation, self.model)
        for name, module in {**self._activations, **self._layers}.items():
            module.train(self.model.get_submodule(name).training)
            self.model.set_submodule(name, module)

    def __str__(self) -> str:
        lines = [f"{name}: {kind}" for name, kind in self.activations.items()]
        lines += [f"{name}: weight of few bits" for name in self.weights]
        return "\n".join([f"thresholds in the place of {len(self.activations)} activations", *lines])


def harden(model: Model, activation: Threshold | str, weight_bits: int | None = None) -> Model:
    """Put a threshold in the place of every activation module of a model, in place; returns the model.

    What goes into the first layer and comes out of the last one stays real. Activations that a model calls as functions
    are not seen, and a model without any is an error. `mm.changes(model)` tells what was done and undoes it.

    Args:
        activation: a threshold such as `mm.Sign()`, or the name of one such as "sign" or "quantized_relu(levels=4)";
            each place gets one of its own.
        weight_bits: 1, 2, 4 or 8 bits for the weights of all linear and convolutional layers but the first and the
            last, learned by the real weights behind them; None leaves them real.
    """
    activation = as_threshold(activation)
    if weight_bits is not None:
        check_bits(weight_bits)
    activations = {name: m for name, m in model.named_modules(remove_duplicate=False) if type(m) in ACTIVATIONS}
    if not activations or "" in activations:
        kinds = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise MinimandError(
            f"{type(model).__name__} has no activation to harden; looked for modules of torch.nn inside it: {kinds}. "
            "Activations called as functions have to be made modules first."
        )
    layers = {} if weight_bits is None else _inner_layers(model)
    new: dict[nn.Module, nn.Module] = {}  # one object that is used twice stays one
    for name, module in activations.items():
        new.setdefault(module, copy.deepcopy(activation).train(module.training))
        model.set_submodule(name, new[module])
    for name, layer in layers.items():
        if layer not in new:
            new[layer] = few_bit_weight(cast(nn.Linear, layer), cast(int, weight_bits), activation.unit)
        model.set_submodule(name, new[layer])
    Hardened(model, activations, layers)
    return model


def hardening_settings(model: nn.Module) -> dict[str, str | int]:
    """The arguments of `mm.create_model` that make the thresholds and few-bit weights of a model; {} without any."""
    kinds = {threshold_text(m) for m in model.modules() if isinstance(m, Threshold)}
    bits = {m.bits for m in model.modules() if isinstance(m, FewBitLayer)}
    settings: dict[str, str | int] = {"activation": " and ".join(sorted(kinds))} if kinds else {}
    return settings | ({"weight_bits": max(bits)} if bits else {})


def _inner_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The inner linear and convolutional layers by every name, without those of few bits and of computed weights."""
    inner = [m for m in model.modules() if isinstance(m, LINEAR_OR_CONVOLUTION)][1:-1]
    real = {m for m in inner if type(m) in FEW_BIT_LAYERS and not is_parametrized(m, "weight")}
    return {name: m for name, m in model.named_modules(remove_duplicate=False) if m in real}
