"""What all named models have in common: a configuration to make them again, and storing by the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from .._support.errors import MinimandError
from ..layers.thresholds import as_threshold
from ..surgery.harden import harden, hardened
from ..surgery.normalize import normalize, normalized
from .info import ModelInfo, integer, model_info


class NamedModel(nn.Module, PyTorchModelHubMixin, library_name="minimand", tags=["minimand"], license="apache-2.0"):
    """A model that `mm.create_model` makes; `save_pretrained` stores it, `from_pretrained` of its class loads it."""

    info: ModelInfo
    num_classes: int
    in_channels: int
    _config: dict[str, Any]

    def _describe(
        self, name: str, num_classes: int | None, in_channels: int, settings: Mapping[str, Any], **skeleton: str
    ) -> None:
        """Set what is known of the model."""
        self.info = model_info(name)
        self.num_classes = self.info.num_classes if num_classes is None else integer("num_classes", num_classes, 0)
        self.in_channels = integer("in_channels", in_channels)
        sizes = {"num_classes": self.num_classes, "in_channels": self.in_channels, **self.info.complete(settings)}
        self._config = {"model": name, **skeleton, **sizes}

    def _change(self, normalization: str | Sequence[str], activation: str | None, weight_bits: int | None) -> None:
        """Change normalizations, activations and weights as `mm.normalize` and `mm.harden` do."""
        for kind in [normalization] if isinstance(normalization, str) else normalization:
            normalize(self, kind)
        if activation is not None:
            harden(self, as_threshold(activation), weight_bits)
        elif weight_bits is not None:
            raise MinimandError(
                f"weight_bits is {weight_bits}, but activation is None; few-bit weights go with activation='sign'."
            )

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `create_model` that make this network, the name as `model`."""
        kinds = [change.kind for change in normalized(self)]
        return {**self._config, **({"normalization": kinds} if kinds else {}), **hardened(self)}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The network that `save_pretrained` or `push_to_hub` stored; the options are those of the Hugging Face hub."""
        # Weights that are missing or not taken are another model's.
        return super().from_pretrained(pretrained_model_name_or_path, **{"strict": True, **options})

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Store the network in a folder; the options are those of the Hugging Face hub."""
        self._hub_mixin_config = self.config
        return super().save_pretrained(save_directory, **options)
