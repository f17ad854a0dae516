"""The kinds of normalization of `mm.normalize`, a file each: modules between layers, or computed weights in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..._support.errors import WrongTypeError
from ..._support.names.registry import Registry, subclass_of
from ..._support.torch.internals import remove_weight_parametrization
from ...layers.normalization import ByChannel, ByPosition


class Normalization:
    """A kind of normalization; the fields of its dataclass, if it has settings, are those in `group(groups=8)`."""

    references: ClassVar[tuple[str, ...]] = ()
    """The keys of the normalization's sources in references.bib."""

    def __str__(self) -> str:
        name = next((name for name, kind in NORMALIZATIONS.items() if type(self) is kind), type(self).__name__)
        settings = [f"{setting}={value!r}" for setting, value in vars(self).items()]
        return name + (f"({', '.join(settings)})" if settings else "")


@dataclass(frozen=True)
class Place:
    """A normalization of a model, as far as another one that takes its place has to know it."""

    norm: nn.Module
    """The normalization that is there, without what turns its axes."""
    channels: int
    """The number of channels that it normalizes."""
    channels_last: bool
    """Whether the channels are the last axis, not the second."""
    dimensions: int | None
    """The number of dimensions of the positions, where the class of the normalization tells."""

    def like(self, kind: type[nn.Module], *arguments: Any) -> nn.Module:
        """A normalization of a class with the eps of the one that is there, and affine if that is."""
        affine = "elementwise_affine" if kind in (nn.LayerNorm, nn.RMSNorm) else "affine"
        eps = getattr(self.norm, "eps", None)
        settings = {"eps": 1e-5 if eps is None else eps, affine: getattr(self.norm, "weight", None) is not None}
        return kind(*arguments, **settings)

    def over_positions(self, classes: Sequence[type[nn.Module]]) -> nn.Module:
        """A normalization per channel, of torch's class for one, two or three dimensions, or the first for any."""
        if self.channels_last or self.dimensions is None:
            return ByChannel(self.like(classes[0], self.channels), self.channels_last)
        return self.like(classes[self.dimensions - 1], self.channels)

    def over_channels(self, kind: type[nn.Module]) -> nn.Module:
        norm = self.like(kind, self.channels)
        return norm if self.channels_last else ByPosition(norm)

    def channels_first(self, norm: nn.Module) -> nn.Module:
        """A normalization of (N, C, ...), made to fit where the channels come last."""
        return ByChannel(norm, True) if self.channels_last else norm


class BetweenLayers(Normalization):
    """A normalization of activations, which takes the place of another one."""

    makes: ClassVar[tuple[type[nn.Module], ...]] = ()
    """The classes of the modules that the normalization makes; a module that is one of them already stays."""
    mixes_positions: ClassVar[bool] = False
    """Whether statistics are taken over several positions: what reads only earlier ones must not be normalized so."""
    groups: int = 1
    """A number that the channels have to be a multiple of."""

    def module(self, place: Place) -> nn.Module:
        """The module that takes the place of a normalization."""
        raise WrongTypeError(f"{type(self).__name__} has no method module(self, place).")


class OfWeights(Normalization):
    """A normalization of the weight of linear and convolutional layers, as a parametrization of torch."""

    def why_not(self, layer: nn.Module) -> str:
        """The reason for which a layer is left alone; empty for a layer that it changes."""
        return ""

    def parametrize(self, layer: nn.Module) -> None:
        """Let the layer compute its weight from another one."""
        raise WrongTypeError(f"{type(self).__name__} has no method parametrize(self, layer).")

    def remove(self, layer: nn.Module) -> None:
        """Take the parametrization off a layer again; its weight is then the one that it was computed from."""
        remove_weight_parametrization(layer, keep_computed=False)


def _check_kind(kind: Any) -> None:
    subclass_of(Normalization)(kind)
    if not issubclass(kind, BetweenLayers | OfWeights):
        raise WrongTypeError(f"{kind!r} is neither BetweenLayers nor OfWeights; expected a subclass of one.")


NORMALIZATIONS: Registry[type[Normalization]] = Registry(
    "normalization", "normalizations", "minimand.surgery.normalizations", _check_kind
)
"""The kinds of normalization by name; those of other packages come by the entry points `minimand.normalizations`."""


def as_normalization(kind: str | Normalization) -> Normalization:
    """The kind of normalization of a name, with settings as in `group(groups=8)`; a `Normalization` as it is."""
    return kind if isinstance(kind, Normalization) else NORMALIZATIONS.make(kind)


def list_normalizations() -> dict[str, str]:
    """A line about each kind of normalization, by name."""
    return NORMALIZATIONS.lines()
