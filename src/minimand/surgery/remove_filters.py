"""Filters of a chain of layers, removed for good: what is left is an ordinary, narrower network."""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .._support.errors import MinimandError, unknown_name
from .._support.torch.internals import BatchNorm, own_parameters
from ..networks.as_network import as_network
from .changes import Change, Model

FilterLayer = nn.Conv2d | nn.Linear
"""The layers that have filters, or units."""
_FILTERS = ("out_channels", "out_features")
_INPUTS = ("in_channels", "in_features", "num_features", "features")
_CHAIN = "expected a chain of Conv2d or Linear, BatchNorm, and modules that keep channels apart, in nn.Sequential"


class FiltersRemoved(Change):
    """A record of `remove_filters`: how many filters each layer had, and how many it has now."""

    irreversible = (
        "removed filters cannot be brought back: their weights are gone. Undo the operations after it one by one with "
        "mm.changes(model)[-1].undo(), or begin with a new model."
    )

    def __init__(self, model: nn.Module, counts: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(model)
        self.counts = dict(counts)

    def __str__(self) -> str:
        lines = [f"  {name}: {after} of {before}" for name, (before, after) in self.counts.items()]
        return "\n".join(["filters left:", *lines])


def remove_filters(model: Model, keep: Mapping[str, Sequence[int]], example: Any = None) -> Model:
    """Remove filters of convolutions, or units of linear layers, in place, with all that reads them.

    What came from filters whose output is zero is the same afterwards. The same call on a new model makes one that the
    state of the narrower one can be loaded into. `mm.changes(model)` tells what was done; this cannot be undone.

    Args:
        model: as for `mm.as_network`; between a layer and the next one stand BatchNorm, flattening, and modules without
            parameters that keep channels apart or rearrange them.
        keep: by the name of a layer the filters that stay, counted from 0. Filters that cannot be removed, since what
            follows mixes or sums them, are an error, and nothing is removed then.
        example: a few inputs, for a model that is no nn.Sequential, such as torchvision's VGG.
    """
    network = as_network(model, example)
    chain = leaves(network.stem, *network.layers, network.head)
    named = {name: m for name, m in model.named_modules() if isinstance(m, FilterLayer) and m in chain}
    removals = []
    for name, indices in keep.items():
        if name not in named:
            raise unknown_name(f"layer with filters in {type(model).__name__}", name, named)
        layer = named[name]
        removals.append(Removal(model, layer, [chain[chain.index(layer) + 1 :]], name))
        count = filters(layer)
        right = all(isinstance(i, int) and 0 <= i < count for i in indices) and len(set(indices)) == len(indices)
        if not indices or not right:
            expected = f"some of the filters 0 to {count - 1}, each once"
            raise MinimandError(f"keep[{name!r}] is {list(indices)}; expected {expected}.")
    counts = {name: (filters(named[name]), len(indices)) for name, indices in keep.items()}
    for removal, indices in zip(removals, keep.values(), strict=True):
        removal.keep(indices)
    FiltersRemoved(model, counts)
    return model


def leaves(*parts: nn.Module) -> list[nn.Module]:
    """The modules of parts, in the order in which they run, those inside nn.Sequential one by one."""
    modules: list[nn.Module] = []
    for part in parts:
        is_chain = isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward
        modules += leaves(*part.children()) if is_chain else [part]
    return modules


def filters(layer: FilterLayer) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


class Removal:
    """The modules that change when filters of a layer are removed, listed before anything is changed.

    `chains` is all that the output of a layer of `model` goes through; MinimandError says why its filters cannot be
    removed.
    """

    def __init__(self, model: nn.Module, layer: FilterLayer, chains: Iterable[Sequence[nn.Module]], name: str) -> None:
        self.layer, self.name = layer, name
        self._holders = Counter(id(p) for module in model.modules() for p in own_parameters(module).values())
        if why := self._why_not(layer, [layer]):
            raise MinimandError(f"filters of {name} cannot be removed: {why}.")
        # Of each input of a module, the filter that it comes from.
        self.readers: dict[nn.Module, Tensor] = {}
        for chain in chains:
            self.readers |= self._readers(chain)

    def _readers(self, chain: Sequence[nn.Module]) -> dict[nn.Module, Tensor]:
        origins, flat = torch.arange(filters(self.layer)), isinstance(self.layer, nn.Linear)
        readers: dict[nn.Module, Tensor] = {}
        for module in chain:
            if isinstance(module, FilterLayer | BatchNorm):
                why = self._why_not(module, chain)
                if isinstance(module, nn.Linear) and not flat:
                    why = "it reads maps that are not flattened"
                each, remainder = divmod(_inputs(module), len(origins))
                if why or remainder:
                    raise self._error(module, why or f"it reads {_inputs(module)} inputs of {len(origins)} channels")
                readers[module] = origins.repeat_interleave(each)
                if isinstance(module, FilterLayer):
                    return readers
            elif isinstance(module, nn.Flatten):
                flat = True
                if hasattr(module, "features"):  # a layer of ours, which checks how many features it gives
                    readers[module] = origins.repeat_interleave(_inputs(module) // len(origins))
            else:
                traced = origins_through(module, len(origins), flat)
                if traced is None:
                    raise self._error(module, f"it does not keep channels apart; {_CHAIN}")
                origins = origins[traced]
        raise MinimandError(f"filters of {self.name} cannot be removed: no layer reads them, they are the output.")

    def _why_not(self, module: nn.Module, chain: Sequence[nn.Module]) -> str:
        """Why a module cannot change; empty where it can."""
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            return f"it has {module.groups} groups, and channels of a group go together"
        is_hooked = isinstance(module, FilterLayer) and "weight" not in own_parameters(module)
        if is_hooked or is_parametrized(module):
            return "its weight is computed from another one (torch.nn.utils)"
        if any(self._holders[id(p)] > 1 for p in module.parameters(recurse=False)):
            return "it shares a weight with another layer"
        if sum(module is other for other in chain) > 1:
            return "it is used twice"
        return ""

    def _error(self, module: nn.Module, why: str) -> MinimandError:
        follows = type(module).__name__
        return MinimandError(f"filters of {self.name} cannot be removed: of the {follows} that follows, {why}.")

    @torch.no_grad()
    def keep(self, indices: Sequence[int]) -> None:
        _narrow(self.layer, torch.tensor(sorted(indices)), 0)
        for module, origins in self.readers.items():
            inputs = torch.isin(origins, torch.tensor(indices)).nonzero().flatten()
            _narrow(module, inputs, 1 if isinstance(module, FilterLayer) else 0)


def origins_through(module: nn.Module, channels: int, flat: bool) -> Tensor | None:
    """The one channel of its input that each channel of a module's output depends on; None if there are several.

    Tried by changing one channel after another; a module with more than scalar parameters is not tried.
    """
    if any(p.numel() > 1 for p in module.parameters()):
        return None
    apart = copy.deepcopy(module).cpu().eval()
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.4 * torch.rand(1, channels, *(() if flat else (8, 8)), generator=generator)
    depends: list[Tensor] = []
    try:
        with torch.no_grad():
            before = apart(x)
            for c in range(channels):
                changed = x.clone()
                changed[:, c] *= -0.7
                depends.append((apart(changed) != before).reshape(*before.shape[:2], -1).any(2)[0])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # the module takes maps of other shapes
        return None
    table = torch.stack(depends)
    return table.int().argmax(0) if bool((table.sum(0) == 1).all()) else None


def _inputs(module: nn.Module) -> int:
    return getattr(module, next(name for name in _INPUTS if hasattr(module, name)))


def _narrow(module: nn.Module, index: Tensor, dim: int) -> None:
    """Keep these entries of a dimension of the weights, and the module's own count of them."""
    counts = _FILTERS if isinstance(module, FilterLayer) and dim == 0 else _INPUTS
    setattr(module, next(name for name in counts if hasattr(module, name)), len(index))
    for name in ("weight", "bias", "running_mean", "running_var") if dim == 0 else ("weight",):
        if (tensor := getattr(module, name, None)) is not None:
            narrow = tensor.detach().index_select(dim, index.to(tensor.device))
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(module, name, nn.Parameter(narrow, tensor.requires_grad) if is_parameter else narrow)
