"""One normalization for another, in any model: modules between the layers, or the weights of the layers."""

import copy
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .._support.errors import MinimandError
from .._support.torch.internals import (
    ConvTransposeNd,
    NormBase,
    adopt_hooks,
    make_picklable,
    own_modules,
    own_parameters,
)
from ..blocks.attention import Attention
from ..layers.normalization import ByChannel, ByPosition
from ..networks.kinds import LINEAR_OR_CONVOLUTION, WRAPPED_NORMALIZATIONS, check_model
from .changes import Change, Model, changes, move_like
from .normalizations import NORMALIZATIONS, BetweenLayers, Normalization, OfWeights, Place, as_normalization

_LISTED = 12  # modules in an error or a report

Left = list[tuple[str, str]]
"""The names of modules that might have been changed, with the reasons for which they are left alone."""


class Normalized(Change):
    """A record of `normalize`: the normalization, what it changed, and what might have been changed and was not."""

    def __init__(self, model: nn.Module, kind: str, left: Left, normalization: Normalization) -> None:
        super().__init__(model)
        self.kind, self.left, self.normalization = kind, tuple(left), normalization
        self.references = normalization.references
        self.changed: list[tuple[str, str, str]] = []
        """The name of each place, what was there, and what is there now."""

    def __str__(self) -> str:
        alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, before, after in self.changed:
            alike[before, after].append(name)
        lines = [f"  {_few(names)}  {before} -> {after}" for (before, after), names in alike.items()]
        lines += [f"  left: {line}" for line in _reasons(self.left)]
        return "\n".join([f"normalized by {self.kind}:", *lines])


def normalize(model: Model, kind: str | Normalization) -> Model:
    """Put another normalization into any model, in place; returns the model.

    `mm.list_normalizations()` lists the kinds; a name may have settings, as in `"group(groups=8)"`. Those between the
    layers take the place of each normalization that is there; weight and bias stay where the new one has them, and so
    do device, dtype and mode, while running averages begin anew. With `"none"` nothing takes its place. Over a whole
    sample, as older convolutional networks normalize, is `"group(groups=1)"`.

    With the others, `"weight"`, `"spectral"`, `"operator_norm"` and `"standardized"`, the weight of linear and
    convolutional layers is computed from another one, as a parametrization of torch; what stands between the layers
    stays, and `normalize(model, "none")` takes it away. `mm.changes(model)` tells what was done and undoes it.

    Where there is nothing to change, the error lists what was looked at; groups that the channels cannot be split into
    are an error too, a weight that is parametrized or shared, and statistics of several positions in a model whose
    tokens must not read later ones. Nothing is changed then.
    """
    check_model(model)
    normalization = as_normalization(kind)
    between = isinstance(normalization, BetweenLayers)
    if isinstance(normalization, BetweenLayers) and normalization.mixes_positions:
        _refuse_causal(model, str(kind))
    modules, left = _places(model, normalization) if between else _layers(model, cast(OfWeights, normalization))
    if not modules:
        raise MinimandError(_nothing_to_normalize(model, str(kind), between, left))
    record_class = _NormalizedBetween if between else _NormalizedWeights
    record_class(model, str(kind), left, normalization).apply(modules)
    return model


class _NormalizedBetween(Normalized):
    def apply(self, places: dict[str, tuple[nn.Module, nn.Module, nn.Module]]) -> None:
        self.replaced = list(places.values())
        self.fast_paths: list[tuple[nn.Module, Any]] = []
        for name, (old, _, new) in places.items():
            self.changed.append((name, _title(old), _title(new)))
            for parent in _replace(self.model, old, new):
                if isinstance(parent, nn.TransformerEncoderLayer):
                    # Its fast path is written for layer normalization alone; this flag closes it.
                    self.fast_paths.append((parent, parent.activation_relu_or_gelu))
                    parent.activation_relu_or_gelu = 0
        # What stood behind a normalization now reads what a skip carries on, and must not write into it.
        is_none = isinstance(self.normalization, NORMALIZATIONS["none"])
        self.in_place = [m for m in self.model.modules() if is_none and getattr(m, "inplace", False) is True]
        for module in self.in_place:
            module.__dict__["inplace"] = False

    def _restore(self) -> None:
        for module in self.in_place:
            module.__dict__["inplace"] = True
        for parent, flag in reversed(self.fast_paths):
            parent.activation_relu_or_gelu = flag
        for old, norm, new in reversed(self.replaced):
            _take_values(old, norm, self.model)
            old.train(new.training)
            _replace(self.model, new, old)


class _NormalizedWeights(Normalized):
    def apply(self, layers: dict[str, nn.Module]) -> None:
        self.orders: dict[str, list[str]] = {}
        for name, layer in layers.items():
            title, training = type(layer).__name__, layer.training
            self.orders[name] = list(own_parameters(layer))
            cast(OfWeights, self.normalization).parametrize(layer)
            make_picklable(layer)
            layer.train(training)
            (parametrization,) = cast(Any, layer).parametrizations.weight
            self.changed.append((name, title, f"its weight by {type(parametrization).__name__.lstrip('_')}"))

    def _restore(self) -> None:
        for name, order in self.orders.items():
            layer = self.model.get_submodule(name)
            cast(OfWeights, self.normalization).remove(layer)
            parameters = own_parameters(layer)
            for parameter in order:  # the original order: `remove` put the weight last
                parameters[parameter] = parameters.pop(parameter)


def _places(model: nn.Module, normalization: BetweenLayers) -> tuple[dict[str, Any], Left]:
    """The normalizations of a model, each with the one that takes its place, alone and with what follows inside."""
    modules: dict[str, Any] = {}
    left: Left = []
    channels: dict[str, int] = {}
    groups = normalization.groups
    inside: set[nn.Module] = set()
    originals = _originals(model)
    ours = tuple(c for kind in NORMALIZATIONS.values() if issubclass(kind, BetweenLayers) for c in kind.makes)
    for name, module in model.named_modules():
        if module in inside:
            continue
        original = originals.get(module)
        if original is not None and (back := _back(original, module, normalization, model)) is not None:
            inside.update(module.modules())
            modules[name] = (module, *back)
            continue
        if not isinstance(module, (*WRAPPED_NORMALIZATIONS, *ours)):
            if "norm" in type(module).__name__.lower() and ".parametrizations." not in f".{name}":
                left.append((name, f"{type(module).__name__} is not known here"))
            continue
        inside.update(module.modules())
        place = _read(module, original)
        if isinstance(place, str):
            left.append((name, place))
            continue
        channels[name] = place.channels
        if place.channels % groups:
            continue
        new = normalization.module(place)
        if _is_same(place.norm, new, normalization):
            left.append((name, f"is {_title(module)} already"))
            continue
        if module is model:
            raise MinimandError(
                f"model is a normalization itself, {_title(module)}; give the model that it is part of."
            )
        _take_values(new, place.norm, model)
        modules[name] = (module, new, _with_activation(module, new))
    for name, count in channels.items():
        if count % groups:
            fits = max(n for n in range(1, groups + 1) if all(c % n == 0 for c in channels.values()))
            why = f"cannot be split into {groups} groups; 'group(groups={fits})' would do for all."
            raise MinimandError(f"the {count} channels of {name} {why}")
    return modules, left


def _refuse_causal(model: nn.Module, kind: str) -> None:
    generates = getattr(model, "can_generate", None)  # of models of transformers, some of whose attention says nothing
    if any(_is_causal(module) for module in model.modules()) or (callable(generates) and generates()):
        raise MinimandError(
            f"{kind!r} takes statistics of all positions, by which a token of {type(model).__name__} would read those "
            "that follow it; expected 'layer', 'rms' or 'none', or a kind for weights."
        )


def _is_causal(module: nn.Module) -> bool:
    """Whether a module is attention to former positions alone, of ours or of transformers."""
    return module.causal if isinstance(module, Attention) else getattr(module, "is_causal", None) is True


def _originals(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """The normalization that stood there at first, for each that `normalize` put into a model."""
    originals: dict[nn.Module, nn.Module] = {}
    for record in changes(model):
        if isinstance(record, _NormalizedBetween):
            for old, norm, new in record.replaced:
                originals[norm] = originals[new] = originals.get(old, old)
    return originals


def _back(
    original: nn.Module, now: nn.Module, normalization: BetweenLayers, model: nn.Module
) -> tuple[nn.Module, nn.Module] | None:
    """A normalization such as stood there at first, by the same names, if that is what is asked for; twice."""
    groups = getattr(_inner(original), "num_groups", 1)
    norm = next((m for m in now.modules() if isinstance(m, WRAPPED_NORMALIZATIONS)), now)
    if not isinstance(_inner(original), normalization.makes) or groups != normalization.groups:
        return None
    if isinstance(_inner(norm), normalization.makes) and getattr(_inner(norm), "num_groups", 1) == groups:
        return None  # the normalization that is wanted is there already
    new = copy.deepcopy(original).train(now.training)
    if isinstance(inner := _inner(new), NormBase):
        inner.reset_running_stats()
    _take_values(new, norm, model)
    return new, new


def _read(module: nn.Module, original: nn.Module | None = None) -> Place | str:
    """What is known of a normalization, perhaps by the one that stood there at first; text says why it is left."""
    norm = _inner(module)
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        size, *further = norm.normalized_shape
        if further:
            return f"{_title(module)} is over several axes"
        last = not isinstance(module, ByPosition) and "2d" not in type(module).__name__.lower()
        return Place(norm, size, last, None if original is None else _dimensions(original))
    size = next((getattr(norm, name) for name in ("num_features", "num_channels") if hasattr(norm, name)), None)
    if size is None:
        return f"{_title(module)} does not tell its channels: it has neither num_features nor num_channels"
    if size == 0:
        return f"{_title(module)} has no size yet: give the model a batch first"
    if isinstance(module, ByChannel):
        return Place(norm, size, module.channels_last, None)
    return Place(norm, size, False, _dimensions(original or norm))


def _dimensions(norm: nn.Module) -> int | None:
    dimensions = re.search(r"([123])d", type(_inner(norm)).__name__)
    return int(dimensions[1]) if dimensions else None


def _is_same(norm: nn.Module, new: nn.Module, normalization: BetweenLayers) -> bool:
    """Whether what would be put in is what is there, as far as it computes."""
    same = isinstance(norm, normalization.makes) and isinstance(_inner(new), normalization.makes)
    return same and getattr(norm, "num_groups", None) == getattr(_inner(new), "num_groups", None)


def _with_activation(module: nn.Module, new: nn.Module) -> nn.Module:
    """The new normalization, and after it the dropout and activation that one of timm has inside."""
    after = [m for name in ("drop", "act") if not isinstance(m := own_modules(module).get(name), nn.Identity | None)]
    return (nn.Sequential(new, *after) if after else new).train(module.training)


@torch.no_grad()
def _take_values(new: nn.Module, old: nn.Module, model: nn.Module) -> None:
    """Give a normalization the device, dtype, weight and bias of an old one, as far as both have them."""
    move_like(new, old, model)
    for name in ("weight", "bias"):
        value, parameter = (getattr(_inner(norm), name, None) for norm in (old, new))
        if value is not None and parameter is not None:
            parameter.copy_(value)
            parameter.requires_grad_(value.requires_grad)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> list[nn.Module]:
    """Put a module in all places of another one, with its hooks; the parents of these places."""
    adopt_hooks(new, old)
    parents: list[nn.Module] = []
    for parent in list(model.modules()):
        for name, child in own_modules(parent).items():
            if child is old:
                own_modules(parent)[name] = new
                parents.append(parent)
    return parents


def _layers(model: nn.Module, normalization: OfWeights) -> tuple[dict[str, Any], Left]:
    modules: dict[str, Any] = {}
    left: Left = []
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(name)
    for name, module in model.named_modules():
        title = type(module).__name__
        if not isinstance(module, LINEAR_OR_CONVOLUTION):
            if isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention | nn.Embedding):
                left.append((name, f"{title} has weights that are no linear or convolutional layer's"))
            continue
        if is_parametrized(module, "weight") or "weight" not in own_parameters(module):
            raise MinimandError(
                f"the weight of {name or 'the model'} is parametrized already; take that off first: "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
            )
        weight = module.weight
        if isinstance(weight, nn.parameter.UninitializedParameter):
            left.append((name, f"{title} has no size yet: give the model a batch first"))
        elif not bool(weight.isfinite().all()):
            raise MinimandError(f"the weight of {name or 'the model'} is not finite, in {_not_finite(module)}.")
        elif len(owners[id(weight)]) > 1:
            raise MinimandError(
                f"{' and '.join(owners[id(weight)])} share a weight; a normalized one would be shared no longer. "
                "Normalize before they are tied, or the parts of the model one by one."
            )
        elif why := normalization.why_not(module):
            left.append((name, why))
        else:
            modules[name] = module
    return modules, left


def _not_finite(layer: nn.Module) -> str:
    """The filters of a layer that have entries which are not finite, in words."""
    axis = 1 if isinstance(layer, ConvTransposeNd) else 0
    rows = cast(nn.Linear, layer).weight.detach().movedim(axis, 0).flatten(1)
    numbers = (~rows.isfinite()).any(1).nonzero().flatten().tolist()
    return f"filter {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")


def _nothing_to_normalize(model: nn.Module, kind: str, between: bool, left: Left) -> str:
    name = type(model).__name__
    if left:
        return f"nothing to normalize by {kind} in {name}: {'; '.join(_reasons(left))}."
    kinds = list(dict.fromkeys(type(module).__name__ for module in model.modules()))
    shown = ", ".join([*kinds[:_LISTED], *(["..."] if len(kinds) > _LISTED else [])])
    expected = "a normalization of torch" if between else "a linear or convolutional layer"
    return f"nothing to normalize by {kind} in {name}: expected {expected}. Looked at {shown}."


def _reasons(left: Iterable[tuple[str, str]]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name, why in left:
        alike[why].append(name or "the model")
    return [f"{_few(names)}: {why}" for why, names in list(alike.items())[:_LISTED]]


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _inner(module: nn.Module) -> nn.Module:
    return cast(nn.Module, module.norm) if isinstance(module, ByChannel | ByPosition) else module


def _title(module: nn.Module) -> str:
    """The class of a normalization, without `ByChannel` and `ByPosition`, which only turn its axes."""
    if isinstance(module, nn.Sequential):
        return " and ".join(_title(child) for child in module)
    norm = _inner(module)
    groups = getattr(norm, "num_groups", None)
    return type(norm).__name__ + (f" of {groups} groups" if groups else "")
