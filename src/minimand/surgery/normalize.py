"""One normalization for another, in any model: modules between the layers, or the weights of the layers."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from .._support.calls import call_with, parse_call
from .._support.checks import check_number
from .._support.errors import MinimandError, unknown_name
from .._support.torch_internals import BatchNorm, ConvNd, ConvTransposeNd, InstanceNorm
from ..layers.normalization import ByChannel, ByPosition
from ..layers.normalized_weight import operator_norm, weight_standardization
from ..layers.switchable import SwitchNorm
from ..networks.kinds import WRAPPED_NORMALIZATIONS, check_model

Model = TypeVar("Model", bound=nn.Module)

# How many modules an error or a report lists.
_LISTED = 12


@dataclass(frozen=True)
class Normalized:
    """What a call of `normalize` did to a model."""

    kind: str
    changed: tuple[tuple[str, str, str], ...]
    """Name, what was there, what is there now."""
    left: tuple[tuple[str, str], ...]
    """Name and why: what might have been changed and was not."""

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib."""
        return _REFERENCES[parse_call(self.kind, "normalization")[0]]

    def __str__(self) -> str:
        alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, before, after in self.changed:
            alike[before, after].append(name)
        lines = [f"  {_few(names)}  {before} -> {after}" for (before, after), names in alike.items()]
        lines += [f"  left: {line}" for line in _reasons(self.left)]
        return "\n".join([f"normalized by {self.kind}:", *lines])


def normalize(model: Model, kind: str) -> Model:
    """Put another normalization into any model, in place; returns the model.

    Between the layers each normalization is replaced; weight and bias stay where the new one has them, and so do
    device, dtype and mode. Running averages begin anew.

    - `"batch"`: per channel over the batch and all positions.
    - `"layer"`, `"rms"`: over the channels of each position, as transformers and ConvNeXt do. Over a whole sample, as
      older convolutional networks do, is `"group(groups=1)"`.
    - `"instance"`: per sample and channel over the positions.
    - `"group"`: per sample over `groups` groups of channels, 32 if nothing is said: `"group(groups=8)"`.
    - `"switchable"`: a learned mixture of instance, layer and batch (`SwitchNorm`).
    - `"none"`: nothing in its place, not even weight and bias; modules that work in place no longer do.

    In the layers, linear and convolutional, the weight is computed from another one, as a parametrization of torch;
    what stands between the layers stays, and `normalize(model, "none")` takes it away.

    - `"weight"`: a length and a direction; the network is the same at first.
    - `"spectral"`: divided by the largest singular value of the weight as a matrix.
    - `"operator_norm"`: of convolutions by that of the map of images instead.
    - `"standardized"`: mean 0 and variance 1 / fan-in for each filter, with a learned gain;
      `"standardized(gamma=1.7128585)"` after ReLU where no normalization follows.

    `normalized(model)` tells what was done.

    Raises:
        ValueError: nothing to change (lists what was looked at); an unknown kind or setting; groups that the channels
            cannot be split into; a weight that is parametrized or shared. Nothing is changed then.
    """
    check_model(model)
    name, settings = parse_call(kind, "normalization")
    makers = {**_BETWEEN, **_WEIGHTS}
    if name not in makers:
        raise unknown_name("normalization", name, makers)
    maker = call_with(makers[name], settings, name)
    changes, left = (_between if name in _BETWEEN else _weights)(model, maker)
    if not changes:
        raise MinimandError(_nothing_found(model, kind, left))
    changed = tuple((change.name, change.before, change.apply()) for change in changes)
    if name == "none":
        # What stood behind a normalization now reads what a skip carries on, and must not write into it.
        for module in model.modules():
            if getattr(module, "inplace", False) is True:
                module.__dict__["inplace"] = False
    model.__dict__["_normalized"] = (*normalized(model), Normalized(kind, changed, tuple(left)))
    return model


def normalized(model: nn.Module) -> tuple[Normalized, ...]:
    """What calls of `normalize` did to a model, in their order."""
    return getattr(model, "_normalized", ())


@dataclass(frozen=True)
class _Change:
    name: str
    before: str
    apply: Callable[[], str]
    """Makes it, and says what is there now."""


@dataclass(frozen=True)
class _Found:
    """A normalization of a model, in the terms of every kind."""

    module: nn.Module
    norm: nn.Module
    """The one of torch, or ours, inside."""
    channels: int
    last: bool
    """Whether the channels are the last axis, not the second."""
    dimensions: int | None
    """Of positions, where the class tells."""

    def make(self, kind: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
        """A torch class with this one's eps, affine or not."""
        affine = "elementwise_affine" if kind in (nn.LayerNorm, nn.RMSNorm) else "affine"
        eps = getattr(self.norm, "eps", None)
        return kind(
            *arguments, eps=1e-5 if eps is None else eps, **{affine: _parameter(self.norm, "weight") is not None}
        )


Maker = Callable[[_Found], nn.Module]


def _of_positions(found: _Found, classes: tuple[type[nn.Module], ...]) -> nn.Module:
    """Batch or instance normalization: of torch's class for the number of dimensions, or around that for one."""
    if found.last or found.dimensions is None:
        return ByChannel(found.make(classes[0], found.channels), found.last)
    return found.make(classes[found.dimensions - 1], found.channels)


def _of_channels(found: _Found, kind: type[nn.Module]) -> nn.Module:
    norm = found.make(kind, found.channels)
    return norm if found.last else ByPosition(norm)


def _in_groups(found: _Found, groups: int) -> nn.Module:
    norm = found.make(nn.GroupNorm, groups, found.channels)
    return ByChannel(norm, True) if found.last else norm


def _switchable(found: _Found) -> nn.Module:
    norm = found.make(SwitchNorm, found.channels)
    return ByChannel(norm, True) if found.last else norm


def _group(groups: int = 32) -> Maker:
    check_number("groups", groups, 1, float("inf"), whole=True)
    return partial(_in_groups, groups=groups)


def _standardized(gamma: float = 1.0) -> Callable[[nn.Module], Any]:
    check_number("gamma", gamma, 0, float("inf"), below=True)
    return lambda layer: weight_standardization(cast(nn.Linear, layer), gamma)


def _operator_norm(layer: nn.Module) -> nn.Module:
    return operator_norm(layer) if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else _spectral(layer)


def _spectral(layer: nn.Module) -> nn.Module:
    with torch.random.fork_rng(_cuda(layer)):  # its first vectors are drawn
        return parametrizations.spectral_norm(layer)


def _weight(layer: nn.Module) -> nn.Module:
    return parametrizations.weight_norm(layer, dim=1 if isinstance(layer, ConvTransposeNd) else 0)


_BETWEEN: dict[str, Callable[..., Maker]] = {
    "batch": lambda: partial(_of_positions, classes=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)),
    "layer": lambda: partial(_of_channels, kind=nn.LayerNorm),
    "instance": lambda: partial(_of_positions, classes=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)),
    "group": _group,
    "rms": lambda: partial(_of_channels, kind=nn.RMSNorm),
    "switchable": lambda: _switchable,
    "none": lambda: lambda found: nn.Identity(),
}
_WEIGHTS: dict[str, Callable[..., Callable[[nn.Module], nn.Module]]] = {
    "weight": lambda: _weight,
    "spectral": lambda: _spectral,
    "operator_norm": lambda: _operator_norm,
    "standardized": _standardized,
}
"""Each takes the settings that a kind may have."""

_REFERENCES: dict[str, tuple[str, ...]] = {
    "batch": ("ioffe2015batchnorm",),
    "layer": ("ba2016layernorm",),
    "instance": ("ulyanov2016instancenorm",),
    "group": ("wu2018groupnorm",),
    "rms": ("zhang2019rmsnorm",),
    "switchable": ("luo2018switchable",),
    "none": (),
    "weight": ("salimans2016weightnorm",),
    "spectral": ("miyato2018spectralnorm",),
    "operator_norm": ("miyato2018spectralnorm",),
    "standardized": ("qiao2019standardization", "brock2021signal"),
}


def _between(model: nn.Module, maker: Maker) -> tuple[list[_Change], list[tuple[str, str]]]:
    """What changes between the layers, and what does not."""
    changes: list[_Change] = []
    left: list[tuple[str, str]] = []
    channels: dict[str, int] = {}
    indivisible = False
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if not isinstance(module, WRAPPED_NORMALIZATIONS):
            if "norm" in type(module).__name__.lower() and ".parametrizations." not in f".{name}":
                left.append((name, f"{type(module).__name__} is not known here"))
            continue
        inside.update(module.modules())
        found = _read(module)
        if isinstance(found, str):
            left.append((name, found))
            continue
        channels[name] = found.channels
        if found.channels % _groups(maker):
            indivisible = True
            continue
        new = maker(found)
        if _is_same(found, new):
            left.append((name, f"is {_title(module)} already"))
            continue
        if module is model:
            raise MinimandError(
                f"model is a normalization itself, {_title(module)}; give the model that it is part of."
            )
        new = _with_values_of(module, found.norm, new, model)
        changes.append(_Change(name, _title(module), partial(_replace, model, module, new)))
    if indivisible:
        raise MinimandError(_cannot_be_split(_groups(maker), channels))
    return changes, left


def _read(module: nn.Module) -> _Found | str:
    """What is known of a normalization; text says why it is left."""
    norm = cast(nn.Module, module.norm) if isinstance(module, ByChannel | ByPosition) else module
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        size, *others = norm.normalized_shape
        if others:
            return f"{_title(module)} is over several axes"
        last = not isinstance(module, ByPosition) and "2d" not in type(module).__name__.lower()
        return _Found(module, norm, size, last, None)
    size = next(getattr(norm, name) for name in ("num_features", "num_channels") if hasattr(norm, name))
    if size == 0:
        return f"{_title(module)} has no size yet: give the model a batch first"
    dimensions = re.search(r"([123])d", type(norm).__name__)
    if isinstance(module, ByChannel):
        return _Found(module, norm, size, module.channels_last, None)
    return _Found(module, norm, size, False, int(dimensions[1]) if dimensions else None)


def _is_same(found: _Found, new: nn.Module) -> bool:
    """Whether what would be put in is what is there, as far as it computes."""
    inner = new.norm if isinstance(new, ByChannel | ByPosition) else new
    kinds = (BatchNorm, InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, SwitchNorm)
    same = any(isinstance(found.norm, kind) and isinstance(inner, kind) for kind in kinds)
    return same and getattr(found.norm, "num_groups", None) == getattr(inner, "num_groups", None)


@torch.no_grad()
def _with_values_of(module: nn.Module, norm: nn.Module, new: nn.Module, model: nn.Module) -> nn.Module:
    """The new normalization with the old one's weight and bias, where it is and as it is; and what followed inside."""
    like = next((t for t in (*norm.parameters(), *model.parameters()) if t.is_floating_point()), torch.empty(0))
    new.to(like.device, like.dtype)
    inner = cast(nn.Module, new.norm) if isinstance(new, ByChannel | ByPosition) else new
    for name in ("weight", "bias"):
        old, parameter = _parameter(norm, name), _parameter(inner, name)
        if old is not None and parameter is not None:
            parameter.copy_(old)
            parameter.requires_grad_(old.requires_grad)
    # timm's normalizations with an activation.
    after = [m for name in ("drop", "act") if (m := module._modules.get(name)) is not None]
    after = [m for m in after if not isinstance(m, nn.Identity)]
    whole = nn.Sequential(new, *after) if after else new
    return whole.train(module.training)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> str:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
                if isinstance(parent, nn.TransformerEncoderLayer):
                    # Its fast path is written for layer normalization alone; this flag closes it.
                    parent.activation_relu_or_gelu = 0
    return _title(new)


def _weights(model: nn.Module, maker: Callable[[nn.Module], nn.Module]) -> tuple[list[_Change], list[tuple[str, str]]]:
    """The layers whose weights change, and those whose do not."""
    changes: list[_Change] = []
    left: list[tuple[str, str]] = []
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(name)
    for name, module in model.named_modules():
        title = type(module).__name__
        if not isinstance(module, nn.Linear | ConvNd):
            if isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention | nn.Embedding):
                left.append((name, f"{title} has weights that are no linear or convolutional layer's"))
            continue
        if is_parametrized(module, "weight") or "weight" not in module._parameters:
            raise MinimandError(
                f"the weight of {name or 'the model'} is parametrized already; take that off first: "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
            )
        weight = module.weight
        if isinstance(weight, nn.parameter.UninitializedParameter):
            left.append((name, f"{title} has no size yet: give the model a batch first"))
        elif len(owners[id(weight)]) > 1:
            raise MinimandError(
                f"{' and '.join(owners[id(weight)])} share a weight; a normalized one would be shared no longer. "
                "Normalize before they are tied, or the parts of the model one by one."
            )
        elif maker not in (_weight, _spectral) and isinstance(module, ConvTransposeNd):
            left.append((name, f"{title} is transposed"))
        elif maker not in (_weight, _spectral, _operator_norm) and weight[0].numel() < 2:
            left.append((name, "filters of one weight would be 0"))
        else:
            changes.append(_Change(name, title, lambda m=module: _parametrized(m, maker)))
    return changes, left


def _parametrized(module: nn.Module, maker: Callable[[nn.Module], nn.Module]) -> str:
    training = module.training
    maker(module).train(training)
    (parametrization,) = cast(Any, module).parametrizations.weight
    return f"its weight by {type(parametrization).__name__.lstrip('_')}"


def _parameter(norm: nn.Module, name: str) -> torch.Tensor | None:
    return cast("torch.Tensor | None", getattr(norm, name, None))


def _cuda(module: nn.Module) -> list[torch.device]:
    return list({p.device for p in module.parameters() if p.device.type == "cuda"})


def _groups(maker: Maker) -> int:
    return maker.keywords.get("groups", 1) if isinstance(maker, partial) else 1


def _cannot_be_split(groups: int, channels: dict[str, int]) -> str:
    name, count = next((name, count) for name, count in channels.items() if count % groups)
    fits = max(n for n in range(1, groups + 1) if all(c % n == 0 for c in channels.values()))
    return (
        f"the {count} channels of {name} cannot be split into {groups} groups; 'group(groups={fits})' would do for all."
    )


def _nothing_found(model: nn.Module, kind: str, left: list[tuple[str, str]]) -> str:
    name = type(model).__name__
    if left:
        return f"nothing to normalize by {kind} in {name}: {'; '.join(_reasons(left))}."
    kinds = dict.fromkeys(type(module).__name__ for module in model.modules())
    shown = ", ".join(list(kinds)[:_LISTED]) + (", ..." if len(kinds) > _LISTED else "")
    expected = "a linear or convolutional layer" if kind.partition("(")[0] in _WEIGHTS else "a normalization of torch"
    return f"nothing to normalize by {kind} in {name}: expected {expected}. Looked at {shown}."


def _reasons(left: Iterable[tuple[str, str]]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name, why in left:
        alike[why].append(name or "the model")
    return [f"{_few(names)}: {why}" for why, names in list(alike.items())[:_LISTED]]


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _title(module: nn.Module) -> str:
    """The class of a normalization, without what only turns its axes."""
    if isinstance(module, nn.Sequential):
        return " and ".join(_title(child) for child in module)
    if isinstance(module, ByChannel | ByPosition):
        return _title(module.norm)
    groups = getattr(module, "num_groups", None)
    return type(module).__name__ + (f" of {groups} groups" if groups else "")
