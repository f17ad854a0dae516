"""The network that an algorithm gives: a named model with an algorithm for its skeleton."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

from .._support.errors import MinimandError
from ..algorithms import Algorithm, as_algorithm, specification
from ..layers.stochastic_depth import DropPath
from ..theory.kernel import Binding
from .features import Features
from .info import Parts, model_info, without_skeleton


class UnrolledNetwork(Features):
    """A named model with an algorithm for its skeleton.

    `forward` runs every stage by its cheapest realization; `stem`, `layers` and `head` are the same network
    step by step, as the algorithm is written. `mm.create_model` makes one; `save_pretrained`,
    `from_pretrained` and `push_to_hub` store and load one. Features and the classifier go by timm's names.
    """

    def __init__(
        self,
        model: str,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        binding: Binding | None = None,
        num_classes: int | None = None,
        in_channels: int = 3,
        normalization: str | Sequence[str] = (),
        activation: str | None = None,
        weight_bits: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        info = model_info(model)
        if info.binding is None:
            raise MinimandError(f"{without_skeleton(info)}; mm.create_model makes it.")
        # Text here may come from a folder.
        self.algorithm = as_algorithm(algorithm or info.algorithm, allow_files=False)
        self.binding = binding or info.binding
        skeleton = {"algorithm": specification(self.algorithm), "binding": self.binding}
        self._describe(model, num_classes, in_channels, settings, **skeleton)
        sizes = {name: value for name, value in self._config.items() if name not in ("model", *skeleton)}
        sizes["num_classes"] = self.num_classes or 1
        # As many blocks in a layer as it asks oracles.
        self._assemble(*[cast(Parts, info.build(binding=self.binding, **sizes)) for _ in self.algorithm.oracles])
        if self.num_classes == 0:
            self.reset_classifier(0)
        self._change(normalization, activation, weight_bits)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        **options: Any,
    ) -> Self:
        """The network that `save_pretrained` or `push_to_hub` stored.

        Args:
            pretrained_model_name_or_path: a folder, or owner/name on the hub.
            algorithm: needed if the stored one is not built in: no folder decides what code runs.
            **options: options of the Hugging Face hub, such as `revision`.

        Raises:
            MinimandError: the algorithm is needed.
        """
        if algorithm is not None:
            options["algorithm"] = as_algorithm(algorithm)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib of what neither the family nor the algorithm names: stochastic depth."""
        return DropPath.references if self._config.get("drop_path") else ()
