"""A model by layer: what comes out of each, its parameters, its multiplications, and its place in a skeleton."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._support.errors import MinimandError, WrongTypeError
from .._support.tables import table_html, table_text
from .._support.torch.flops import FlopCounter
from .._support.torch.modes import evaluation_mode
from ..data import Data, call, tensor_of
from ..data.batches import first_tensor
from ..networks import count_parameters, skeletons
from ..networks.kinds import LAYERS, check_model


@dataclass(frozen=True)
class LayerSummary:
    """A layer of a `ModelSummary`, at its first call."""

    name: str
    kind: str
    """The name of the module's class."""
    output: tuple[int, ...]
    """The shape of the layer's output for one sample; empty where the layer gives no tensor."""
    parameters: int
    """The number of the layer's own parameters; shared ones count where they are met first."""
    macs: int
    """Multiplications, each with an addition, for one sample, over all its calls."""
    calls: int
    """The number of the layer's runs in a pass; 0 of a layer whose weights another module uses."""
    place: str
    """The algorithm whose gradient the layer helps to give, and the step: `HeavyBall 2/9`; empty outside skeletons."""


@dataclass(frozen=True)
class ModelSummary:
    """A model by layer, from `mm.summary`."""

    model: str
    layers: tuple[LayerSummary, ...]
    """The layers in the order of their first calls."""
    unused: tuple[str, ...]
    """Layers with parameters that did not run, and whose weights no other module used."""
    parameters: int
    """All parameters of the model, those outside of layers included."""
    macs: int
    """All multiplications for one sample, those outside of layers included."""

    def columns(self) -> list[str]:
        """The column heads of the table."""
        return ["layer", "kind", "output", "parameters", "M MACs", ""]

    def rows(self) -> list[list[str]]:
        """A row for each layer with parameters."""
        return [
            [
                layer.name + (f" ({layer.calls} times)" if layer.calls > 1 else ""),
                layer.kind,
                " x ".join(map(str, layer.output)) if layer.calls else "weights only",
                f"{layer.parameters:,}" if layer.parameters else "",
                _millions(layer.macs) if layer.macs else "",
                layer.place,
            ]
            for layer in self.layers
            if layer.parameters
        ]

    @property
    def note(self) -> str:
        """A sentence on the whole model, and on what did not run."""
        whole = f"{self.model}: {self.parameters:,} parameters, {_millions(self.macs)} M MACs a sample."
        return whole + (f" Did not run: {', '.join(self.unused)}." if self.unused else "")

    def __str__(self) -> str:
        return table_text(self.columns(), self.rows(), note=self.note, labels=3)

    def __repr__(self) -> str:
        return f"<summary of {self.note}>"

    def _repr_html_(self) -> str:
        return table_html(self.columns(), self.rows(), note=self.note)


def summary(model: nn.Module, example: Any) -> ModelSummary:
    """Summarize a model by layer: output shapes, parameters, multiplications, and what its skeleton does with each.

    Layers are modules without children, and those of torch that mix features as a whole (attention, recurrent ones).

    Args:
        model: any module; it runs once, in evaluation mode.
        example: a batch as the model takes it, or the data (`mm.Data`) that it is for.

    Raises:
        MinimandError: a batch on which the model fails, or without a tensor.
    """
    check_model(model)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = example.for_model(model).example(device) if isinstance(example, Data) else example
    if not isinstance(first := first_tensor(batch), Tensor) or first.ndim == 0:
        raise WrongTypeError(f"example is {type(example).__name__}; expected a batch as the model takes it, or data.")
    if len(first) == 0:
        raise MinimandError("example is an empty batch; expected at least one sample.")
    watch = _Watch(model, len(first))
    try:
        with evaluation_mode(model), torch.no_grad(), watch.counter, watch.reader:
            call(model, batch)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, MinimandError):
            raise
        shape = tuple(first.shape)
        raise MinimandError(f"{type(model).__name__} fails on a batch of the shape {shape} ({error}).") from error
    finally:
        watch.close()
    layers = watch.layers()
    ran = {layer.name for layer in layers}
    unused = [name for name, module in watch.leaves.items() if name not in ran and count_parameters(module)]
    macs = watch.counter.get_total_flops() // 2 // len(first)
    return ModelSummary(type(model).__name__, layers, tuple(unused), count_parameters(model), macs)


class _Reader(TorchFunctionMode):
    """Notes which tensors anything is computed of."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()
        """The identities of the parameters."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):  # what gives a tensor reads values; shape and device do not count
            self.read |= {id(value) for value in (*args, *(kwargs or {}).values()) if isinstance(value, nn.Parameter)}
        return result


class _Watch:
    """Hooks on the layers of a model, which note shapes and multiplications."""

    def __init__(self, model: nn.Module, samples: int) -> None:
        self.samples, self.counter, self.reader = samples, FlopCounter(), _Reader()
        self.leaves = dict(_leaves(model))
        self.places = _places(model)
        self.seen: dict[str, list[Any]] = {}
        """The shape of the first output, the operations so far and the calls of each layer, by name."""
        self._before: dict[str, int] = {}
        self._handles = [
            handle
            for name, module in self.leaves.items()
            for handle in (
                module.register_forward_pre_hook(lambda *args, name=name: self._enter(name)),
                module.register_forward_hook(lambda module, inputs, output, name=name: self._leave(name, output)),
            )
        ]

    def _enter(self, name: str) -> None:
        self._before[name] = self.counter.get_total_flops()

    def _leave(self, name: str, output: Any) -> None:
        entry = self.seen.setdefault(name, [_shape(output), 0, 0])
        entry[1] += self.counter.get_total_flops() - self._before[name]
        entry[2] += 1

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def layers(self) -> tuple[LayerSummary, ...]:
        counted: set[int] = set()
        layers = []
        elsewhere = {
            name: [(), 0, 0]
            for name, module in self.leaves.items()
            if name not in self.seen and any(id(parameter) in self.reader.read for parameter in module.parameters())
        }
        for name, (shape, operations, calls) in (self.seen | elsewhere).items():
            module = self.leaves[name]
            own = [parameter for parameter in module.parameters() if id(parameter) not in counted]
            counted |= set(map(id, own))
            size, macs = sum(parameter.numel() for parameter in own), operations // 2 // self.samples
            place = next((text for block, text in self.places.items() if f"{name}.".startswith(f"{block}.")), "")
            layers.append(LayerSummary(name, type(module).__name__, shape, size, macs, calls, place))
        return tuple(layers)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}" if count >= 1e5 or not count else f"{count / 1e6:.1g}"


def _leaves(model: nn.Module, name: str = "") -> list[tuple[str, nn.Module]]:
    children = list(model.named_children())
    if not children or isinstance(model, LAYERS):
        return [(name or type(model).__name__, model)]
    return [leaf for key, child in children for leaf in _leaves(child, f"{name}.{key}".removeprefix("."))]


def _places(model: nn.Module) -> dict[str, str]:
    """The algorithm and the step of each block of a skeleton, by the block's name."""
    return {
        block: f"{type(run.algorithm).__name__} {k + 1}/{run.depth}"
        for run in skeletons(model)
        for k, block in enumerate(run.names)
    }


def _shape(output: Any) -> tuple[int, ...]:
    try:
        return tuple(tensor_of(output).shape[1:])
    except (TypeError, ValueError):
        return ()
