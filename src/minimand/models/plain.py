"""Named models that are a plain sequence of layers, without an algorithm for their skeleton."""

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from .._support.errors import MinimandError
from .named import NamedModel


class PlainNetwork(nn.Sequential, NamedModel):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A named model that is a sequence of layers and a head, such as `convnet8`; `mm.create_model` makes one.

    Every method trains it, layerwise training a child at a time. It runs no algorithm and has no features of timm.
    """

    def __init__(
        self,
        model: str,
        num_classes: int | None = None,
        in_channels: int = 3,
        normalization: str | Sequence[str] = (),
        activation: str | None = None,
        weight_bits: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self._describe(model, num_classes, in_channels, settings)
        if self.info.binding is not None:
            raise MinimandError(f"{model} runs an algorithm and is no PlainNetwork; mm.create_model makes it.")
        if self.num_classes == 0:
            raise MinimandError(f"num_classes is 0; expected at least 1: {model} has no features without a classifier.")
        arguments = {name: value for name, value in self._config.items() if name != "model"}
        self.extend(cast(nn.Sequential, self.info.build(**arguments)))
        self._change(normalization, activation, weight_bits)

    def __getitem__(self, idx: Any) -> Any:
        """A layer; or for a slice a plain nn.Sequential, as a part of the model is no named one."""
        return nn.Sequential(*self)[idx] if isinstance(idx, slice) else super().__getitem__(idx)
