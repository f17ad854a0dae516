"""Steps in the place of the activations of any model."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch.fx
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .._support.errors import MinimandError
from .._support.torch.internals import adopt_hooks
from ..layers.convex_gradient import ConvexGradient
from ..layers.thresholds import Threshold, as_threshold, threshold_text
from ..layers.weight_bits import FEW_BIT_LAYERS, FewBitLayer, check_bits, few_bit_weight
from ..networks.kinds import ACTIVATIONS, LINEAR_OR_CONVOLUTION, check_model, takes_a_threshold
from . import functional
from .changes import Change, Model, move_like


class Hardened(Change):
    """A record of `harden`: the activations that are thresholds now, and the layers whose weights have few bits."""

    def __init__(
        self,
        model: nn.Module,
        activations: dict[str, nn.Module],
        layers: dict[str, nn.Module],
        called: "_Called",
    ) -> None:
        super().__init__(model)
        self._activations, self._layers, self._called = activations, layers, called
        self.activations = {name: str(activation) for name, activation in activations.items()}
        self.activations |= called.names
        self.weights = tuple(layers)
        self.real = dict(called.unread)
        """The modules whose activations or weights stay real, by name, with the reason."""
        if layers:
            why, uncalled = "its weight is read by a ConvexGradient, which does not call it", _uncalled(model)
            self.real |= {name: why for name, module in model.named_modules() if module in uncalled}

    def _restore(self) -> None:
        self._called.restore()
        for activation in self._activations.values():
            move_like(activation, self.model)
        for name, module in {**self._activations, **self._layers}.items():
            module.train(self.model.get_submodule(name).training)
            self.model.set_submodule(name, module)

    def __str__(self) -> str:
        lines = [f"{name}: {kind}" for name, kind in self.activations.items()]
        lines += [f"{name}: weight of few bits" for name in self.weights]
        lines += [f"stays real: {name or 'the model'}: {why}" for name, why in self.real.items()]
        return "\n".join([f"thresholds in the place of {len(self.activations)} activations", *lines])


class _Called:
    """The activations that modules of a model call as functions."""

    def __init__(self, model: nn.Module) -> None:
        self.readable: list[tuple[str, nn.Module, dict[bool, torch.fx.Graph]]] = []
        self.attributes: list[tuple[str, nn.Module, str]] = []
        self.unread: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self._undo: list[Callable[[], Any]] = []
        for name, module in model.named_modules():
            held = [key for key, value in vars(module).items() if _is_function(value)]
            self.attributes += [(name, module, key) for key in held]
            if not functional.calls(type(module)):
                continue
            graphs = functional.read(module)
            if isinstance(graphs, str):
                self.unread[name] = f"{functional.calls(type(module))} activations called as functions; {graphs}"
            elif functional.activations(graphs[False]):
                self.readable.append((name, module, graphs))

    def __len__(self) -> int:
        return len(self.attributes) + sum(len(functional.activations(g[False])) for _, _, g in self.readable)

    def replace(self, activation: Threshold) -> None:
        """Put a threshold of its own into the place of each."""
        for name, module, key in self.attributes:
            function = module.__dict__.pop(key)
            module.add_module(key, copy.deepcopy(activation).train(module.training))
            self.names[f"{name}.{key}".removeprefix(".")] = f"{function.__name__}, an attribute"
            self._undo.append(partial(_put_back, module, key, function))
            if isinstance(module, nn.TransformerEncoderLayer):  # its fast path is written for ReLU and GELU alone
                self._undo.append(partial(setattr, module, "activation_relu_or_gelu", module.activation_relu_or_gelu))
                module.activation_relu_or_gelu = 0
        for name, module, graphs in self.readable:
            nodes = functional.activations(graphs[False])
            children = [f"threshold_{i}" for i in range(len(nodes))]
            for child, node in zip(children, nodes, strict=True):
                module.add_module(child, copy.deepcopy(activation).train(module.training))
                called = getattr(node.target, "__name__", node.target)
                self.names[f"{name}.{child}".removeprefix(".")] = f"{called}, called as a function"
                self._undo.append(partial(delattr, module, child))
            before = module.__dict__.get("forward")  # of a rewired block, that of its class
            module.__dict__["forward"] = functional.hardened(module, graphs, children)
            self._undo.append(partial(_put_forward_back, module, before))

    def restore(self) -> None:
        """Put back the functions that were replaced in the modules, the last one first."""
        for undo in reversed(self._undo):
            undo()


def _put_back(module: nn.Module, key: str, function: Any) -> None:
    delattr(module, key)
    setattr(module, key, function)


def _put_forward_back(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    del module.__dict__["forward"]
    if forward is not None:
        module.__dict__["forward"] = forward


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, nn.Module | type) and value in functional.FUNCTIONS


def harden(model: Model, activation: Threshold | str, weight_bits: int | None = None) -> Model:
    """Put a threshold in the place of every activation of a model, in place; returns the model.

    Activations are modules, those of timm and transformers too, functions that a module holds, and functions that its
    code calls, such as `F.relu(x)` and `x.relu()`, where torch.fx can read that code. What it cannot read stays real:
    `mm.changes(model)` tells so, and there is a warning where that may be most of them. What goes into the first layer
    and comes out of the last one stays real too. A model without any activation is an error. `mm.changes(model)` undoes
    what was done.

    Args:
        activation: a threshold such as `mm.Sign()`, or the name of one such as "sign" or "quantized_relu(levels=4)";
            each place gets one of its own.
        weight_bits: 1, 2, 4 or 8 bits for the weights of all linear and convolutional layers but the first and the
            last, learned by the real weights behind them; None leaves them real.
    """
    activation = as_threshold(activation)
    if weight_bits is not None:
        check_bits(weight_bits)
    check_model(model)
    activations = {name: m for name, m in model.named_modules(remove_duplicate=False) if takes_a_threshold(m)}
    called = _Called(model)
    if not (activations or len(called)) or "" in activations:
        kinds = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        unread = "".join(f" {name or 'The model'} has {why}." for name, why in called.unread.items())
        raise MinimandError(
            f"{type(model).__name__} has no activation to harden; looked for modules of torch.nn inside it: {kinds}, "
            f"for those of timm and transformers, and for activations called as functions.{unread}"
        )
    real, hard = sum(functional.calls(type(model.get_submodule(n))) for n in called.unread), len(activations)
    if real > hard + len(called):
        warnings.warn(
            f"{real} activations of {type(model).__name__} are called as functions in code that torch.fx cannot read, "
            f"and stay real ({', '.join(called.unread)}); {hard + len(called)} become thresholds. Make them modules.",
            stacklevel=2,
        )
    layers = {} if weight_bits is None else _inner_layers(model)
    new: dict[nn.Module, nn.Module] = {}  # a dictionary, so that an activation used twice stays one object
    for name, module in activations.items():
        if module not in new:
            new[module] = copy.deepcopy(activation).train(module.training)
            adopt_hooks(new[module], module)
        model.set_submodule(name, new[module])
    for name, layer in layers.items():
        if layer not in new:
            new[layer] = few_bit_weight(cast(nn.Linear, layer), cast(int, weight_bits), activation.unit)
        model.set_submodule(name, new[layer])
    called.replace(activation)
    Hardened(model, activations, layers, called)
    return model


def hardening_settings(model: nn.Module) -> dict[str, str | int]:
    """The arguments of `mm.create_model` that make the thresholds and few-bit weights of a model; {} without any."""
    kinds = {threshold_text(m) for m in model.modules() if isinstance(m, Threshold)}
    bits = {m.bits for m in model.modules() if isinstance(m, FewBitLayer)}
    settings: dict[str, str | int] = {"activation": " and ".join(sorted(kinds))} if kinds else {}
    return settings | ({"weight_bits": max(bits)} if bits else {})


def _uncalled(model: nn.Module) -> set[nn.Module]:
    """The layers of a model that a convex gradient never calls: it reads their weight, and takes it there and back."""
    return {module.inner for module in model.modules() if isinstance(module, ConvexGradient)}


def _inner_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The inner linear and convolutional layers by every name, without those of few bits and of computed weights."""
    inner = [m for m in model.modules() if isinstance(m, LINEAR_OR_CONVOLUTION)][1:-1]
    real = {m for m in inner if type(m) in FEW_BIT_LAYERS and not is_parametrized(m, "weight")} - _uncalled(model)
    return {name: m for name, m in model.named_modules(remove_duplicate=False) if m in real}
