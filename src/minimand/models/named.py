"""Named models: what they have in common, and those that are a plain sequence of layers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from .._support.errors import MinimandError, unknown_name
from .._support.names.calls import parse_call
from .._support.torch.weights import OtherWeightsError, mismatch
from ..layers.stochastic_depth import DropPath
from ..surgery.changes import changes
from ..surgery.harden import harden, hardening_settings
from ..surgery.normalize import Normalized, normalize
from ..trainability.initialization.initialize import initialize
from ..trainability.initialization.scheme import SCHEMES
from .info import ModelInfo, integer, model_info


class NamedModel(nn.Module, PyTorchModelHubMixin, library_name="minimand", tags=["minimand"], license="apache-2.0"):
    """A model that `mm.create_model` makes; `save_pretrained` stores it, `from_pretrained` of its class loads it."""

    info: ModelInfo
    num_classes: int
    in_channels: int
    _config: dict[str, Any]

    def _describe(
        self,
        name: str,
        num_classes: int | None,
        in_channels: int | None,
        settings: Mapping[str, Any],
        **skeleton: Any,
    ) -> None:
        """Set what is known of the model."""
        self.info = model_info(name)
        sizes = self.info.complete(settings)
        if self.info.takes_tokens:
            for argument, value in (("num_classes", num_classes), ("in_channels", in_channels)):
                if value is not None:
                    raise MinimandError(
                        f"{argument} is {value}, but {name} takes tokens; expected none: num_tokens is the size of the "
                        "vocabulary, of inputs and outputs."
                    )
            self.num_classes, self.in_channels = sizes["num_tokens"], 1
        else:
            self.num_classes = self.info.num_classes if num_classes is None else integer("num_classes", num_classes, 0)
            self.in_channels = 3 if in_channels is None else integer("in_channels", in_channels)
            sizes = {"num_classes": self.num_classes, "in_channels": self.in_channels, **sizes}
        self._config = {"model": name, **skeleton, **sizes}

    def _change(
        self,
        normalization: str | Sequence[str],
        activation: str | None,
        weight_bits: int | None,
        parametrization: str | None,
    ) -> None:
        """Change normalizations, activations and weights as `mm.normalize`, `mm.harden` and `mm.initialize` do."""
        for kind in [normalization] if isinstance(normalization, str) else normalization:
            normalize(self, kind)
        if activation is not None:
            harden(self, activation, weight_bits)
        elif weight_bits is not None:
            raise MinimandError(
                f"weight_bits is {weight_bits}, but activation is None; few-bit weights go with activation='sign'."
            )
        if parametrization is not None:
            if parse_call(parametrization, "parametrization")[0] not in ("mup", "complete_p"):
                raise unknown_name("parametrization", parametrization, ("mup", "complete_p"))
            initialize(self, parametrization, batch=self.noise(4, torch.Generator().manual_seed(0)))
            self._config["parametrization"] = parametrization

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a sample: (in_channels, side, side), of vectors (in_channels,), of tokens (context,)."""
        if self.info.takes_tokens:
            return (self._config["context"],)
        side = self._config.get("image_size", self.info.image_size)
        return (self.in_channels,) if self.info.takes_vectors else (self.in_channels, side, side)

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """A batch of random samples: normal numbers, or tokens."""
        shape = (count, *self.input_shape)
        if self.info.takes_tokens:
            return torch.randint(self.num_classes, shape, generator=generator)
        return torch.randn(shape, generator=generator)

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib of what neither the family nor the algorithm names, as stochastic depth."""
        return references_of(self._config)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `create_model` that make this network, the name as `model`."""
        kinds = [record.kind for record in changes(self) if isinstance(record, Normalized) and record.model is self]
        return {**self._config, **({"normalization": kinds} if kinds else {}), **hardening_settings(self)}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The network that `save_pretrained` or `push_to_hub` stored; the options are those of the Hugging Face hub."""
        # Strict, as weights that are missing or left over are those of another model.
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **{"strict": True, **options})
        except RuntimeError as error:
            if isinstance(error, MinimandError) or "in loading state_dict" not in str(error):
                raise
            text = " ".join(str(error).split())
            raise OtherWeightsError(
                f"{pretrained_model_name_or_path} has the weights of another model ({text})."
            ) from None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the weights of a model of the same settings, as torch does.

        Raises:
            OtherWeightsError: they are another model's; the first tensor that is, and the setting where one tells.
        """
        if (other := mismatch(self, state_dict, strict)) is not None:
            name, how = other
            raise OtherWeightsError(
                f"the weights are not those of this {self.info.name}: {how}{self._setting(name, state_dict)}."
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _setting(self, name: str, state_dict: Mapping[str, Tensor]) -> str:
        """The setting that a tensor of another shape tells of, as the end of a sentence; empty where none does."""
        own = self.state_dict()
        if name not in own or name not in state_dict:
            return ""
        differing = [(a, b) for a, b in zip(own[name].shape, state_dict[name].shape, strict=False) if a != b]
        settings = [(key, b) for a, b in differing for key, value in self._config.items() if value == a]
        if len(settings) != 1:
            return ""
        key, theirs = settings[0]
        what = " (the vocabulary)" if key == "num_tokens" else ""
        return f"; {key}{what} is {self._config[key]} here and seems to be {theirs} there"

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Store the network in a folder; the options are those of the Hugging Face hub."""
        self._hub_mixin_config = self.config
        return super().save_pretrained(save_directory, **options)


def references_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys into references.bib of what the arguments that make a named model ask for beside family and algorithm."""
    rule = config.get("parametrization")
    return (
        *(DropPath.references if config.get("drop_path") else ()),
        *(SCHEMES[parse_call(rule, "parametrization")[0]].references if rule else ()),
        *(("maclaurin2015reversible",) if config.get("memory") == "reversible" else ()),
    )


class PlainNetwork(nn.Sequential, NamedModel):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A named model that is a sequence of layers and a head, such as `convnet8`; `mm.create_model` makes one.

    Every method trains it, layerwise training a child at a time. It runs no algorithm and has no features of timm.
    """

    def __init__(
        self,
        model: str,
        num_classes: int | None = None,
        in_channels: int | None = None,
        normalization: str | Sequence[str] = (),
        activation: str | None = None,
        weight_bits: int | None = None,
        parametrization: str | None = None,
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
        self._change(normalization, activation, weight_bits, parametrization)

    def __getitem__(self, idx: Any) -> Any:
        """A layer; or for a slice a plain nn.Sequential, as a part of the model is no named one."""
        return nn.Sequential(*self)[idx] if isinstance(idx, slice) else super().__getitem__(idx)
