"""What layers and parameters of a model are in its base network: one of the same family, in another size."""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...networks.kinds import layers

T = TypeVar("T", nn.Module, Tensor)


class Counterparts:
    """The layers and parameters of a base network by the names that they have in a model.

    The first and the last layer are those of the base. All else has its own name there, or one that differs in numbers
    alone, as where a network is deeper, and is of the same kind: a layer of that name may be another one in a chain.
    What the model itself has under the other name has the same sizes: the first block of a stage is not like the rest.

    Raises:
        MinimandError: a base without layers; of every method, a layer or parameter that has no counterpart.
    """

    def __init__(self, model: nn.Module, base: nn.Module, last: str) -> None:
        self.model, self.layers, self.base = model, layers(model), base
        self.base_layers = layers(base)
        self.base_parameters = dict(base.named_parameters(remove_duplicate=False))
        if not self.base_layers:
            raise MinimandError(f"base {type(base).__name__} has no layers; expected a network like the model.")
        ends = next(iter(self.layers)), last
        self.ends = dict(zip(ends, self._ends_of_base(ends), strict=True))

    def _ends_of_base(self, ends: tuple[str, str]) -> tuple[str, str]:
        names = list(self.base_layers)
        # A name without numbers, such as head, is the same layer wherever it is registered.
        first, last = (name if name in self.base_layers and not re.search(r"\d", name) else None for name in ends)
        return first or names[0], last or names[-1]

    def layer(self, name: str) -> tuple[str, nn.Module]:
        """The name and the layer in the base of a layer of the model."""
        here = self.layers[name]
        if name in self.ends:
            there = self.ends[name]
            if type(self.base_layers[there]) is not type(here):
                raise nothing_like(name)
            return there, self.base_layers[there]
        others = {
            other: layer
            for other, layer in self.base_layers.items()
            if other not in self.ends.values() and type(layer) is type(here)
        }
        own = {other: _shapes(layer) for other, layer in self.layers.items() if other not in self.ends}
        like = _like(name, others, own)
        return like, others[like]

    def parameter(self, name: str) -> Tensor:
        """The parameter in the base of a parameter of the model."""
        path = name.rpartition(".")[0]
        layer = max((layer for layer in self.layers if f"{path}.".startswith(f"{layer}.")), key=len, default=None)
        if layer is not None:
            there, _ = self.layer(layer)
            if (like := f"{there}{name.removeprefix(layer)}") not in self.base_parameters:
                raise nothing_like(name)
            return self.base_parameters[like]
        kind, dimensions = type(self.model.get_submodule(path)), self.model.get_parameter(name).ndim

        def like_it(whole: nn.Module) -> dict[str, Tensor]:
            named = whole.named_parameters(remove_duplicate=False)
            owners = ((other, whole.get_submodule(other.rpartition(".")[0]), value) for other, value in named)
            return {other: value for other, owner, value in owners if type(owner) is kind and value.ndim == dimensions}

        others = like_it(self.base)
        return others[_like(name, others, {other: value.shape for other, value in like_it(self.model).items()})]


def nothing_like(name: str, other: str | None = None) -> MinimandError:
    """The error of a base network in which a layer or parameter of the model has no counterpart.

    `other` is the nearest by its name, which is another part of the model, of another shape.
    """
    nearest = "" if other is None else f": {other} is the nearest, and it has another shape in the model"
    more = "" if other is None else ", with a second block where the model has more"
    return MinimandError(
        f"base has nothing like {name}{nearest}; expected a network of the same family, of another size{more}."
    )


def _shapes(layer: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in layer.parameters()]


def _like(name: str, there: Mapping[str, T], shapes: Mapping[str, object]) -> str:
    """The name itself, or one that differs in numbers alone: as late in it as can be, and of those the last.

    The first numbers of a name are those of stages, whose widths differ, and only then come those of blocks. `shapes`
    are those of the model's own parts, by name.
    """
    if name in there:
        return name
    numbers = re.findall(r"\d+", name)

    def same(other: str) -> list[bool]:
        return [a == b for a, b in zip(numbers, re.findall(r"\d+", other), strict=True)]

    numbered = [other for other in there if re.sub(r"\d+", "0", other) == re.sub(r"\d+", "0", name)]
    nearest = sorted(numbered, key=same)[::-1]
    like = [other for other in nearest if shapes.get(other, shapes[name]) == shapes[name]]
    if not like:
        raise nothing_like(name, *nearest[:1])
    return like[0]
