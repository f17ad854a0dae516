"""The network that an algorithm gives: a stem, stages with transitions between them, and a head."""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from ..algorithms import Algorithm, as_algorithm, specification
from ..names import unknown_name
from ..networks import Unrolled, unroll
from ..networks.unrolled import Blocks
from ..theory.kernel import Binding
from .info import Parts, model_info


class Bridge(nn.Module):
    """A module between stages: reads a state, changes the shape, starts the next state."""

    def __init__(self, module: nn.Module, before: Unrolled | None, after: Unrolled | None) -> None:
        super().__init__()
        self.module = module
        # In a tuple, so that the stages do not become submodules of what stands between them.
        self.stages = (before, after)

    def forward(self, state: Any) -> Any:
        """State (or the network's input) to state (or the network's output)."""
        before, after = self.stages
        x = self.module(state if before is None else before.read(state))
        return x if after is None else after.start(x)


class UnrolledNetwork(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="minimand",
    tags=["minimand"],
    license="apache-2.0",
):
    """A named model with an algorithm for its skeleton.

    `forward` runs every stage by its cheapest realization; `stem`, `layers` and `head` are the same network
    step by step, as the algorithm is written. `mm.create_model` makes one; `save_pretrained`,
    `from_pretrained` and `push_to_hub` store and load one.
    """

    def __init__(
        self,
        model: str,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        binding: Binding | None = None,
        num_classes: int = 10,
        in_channels: int = 3,
        **settings: Any,
    ) -> None:
        super().__init__()
        info = model_info(model)
        # Text here may come from a folder.
        self.algorithm = as_algorithm(algorithm or info.algorithm, allow_files=False)
        self.binding: Binding = binding or info.binding
        for name in settings:
            if name not in info.settings:
                raise unknown_name(f"setting of {model}", name, {*info.settings, "num_classes", "in_channels"})
        sizes = {"num_classes": num_classes, "in_channels": in_channels, **info.settings, **settings}
        sizes = {name: _positive(name, value) for name, value in sizes.items()}
        self.info = info
        self.num_classes, self.in_channels = sizes["num_classes"], sizes["in_channels"]
        self._config = self._hub_mixin_config = {
            "model": model,
            "algorithm": specification(self.algorithm),
            "binding": self.binding,
            **sizes,
        }
        # As many blocks in a layer as it asks oracles.
        self._assemble(*[info.build(binding=self.binding, **sizes) for _ in self.algorithm.oracles])

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
            **options: those of the Hugging Face hub, such as `revision`.

        Raises:
            ValueError: the algorithm is needed.
        """
        given = {} if algorithm is None else {"algorithm": as_algorithm(algorithm)}
        return super().from_pretrained(pretrained_model_name_or_path, **given, **options)

    def _assemble(self, parts: Parts, *more: Parts) -> None:
        stages = [
            unroll(self.algorithm, self._by_oracle(*blocks), self.binding) if blocks[0] else None
            for blocks in zip(*[[blocks for _, blocks in p.stages] for p in (parts, *more)], strict=True)
        ]
        body: list[Part] = []
        previous = None
        self.stem = Bridge(parts.stem, None, stages[0] if parts.stages[0][0] is None else None)
        for (transition, _), stage in zip(parts.stages, stages, strict=True):
            if transition is not None:
                body.append(Bridge(transition, previous, stage))
            if stage is not None:
                body.append(stage)
            previous = stage
        self.body = nn.ModuleList(body)
        self.head = Bridge(parts.head, previous, None)

    def _by_oracle(self, *blocks: Sequence[nn.Module]) -> Blocks:
        if len(blocks) == 1:
            return blocks[0]
        return [dict(zip(self.algorithm.oracles, layer, strict=True)) for layer in zip(*blocks, strict=True)]

    @property
    def _parts(self) -> list["Part"]:
        return cast(list[Part], list(self.body))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of a batch: images (N, in_channels, H, W), or vectors where the model takes them."""
        self._check(x)
        x = self.stem.module(x)
        for part in self._parts:
            x = part(x) if isinstance(part, Unrolled) else part.module(x)
        return self.head.module(x)

    @property
    def stages(self) -> list[Unrolled]:
        """The stages, in order."""
        return [part for part in self._parts if isinstance(part, Unrolled)]

    @property
    def layers(self) -> list[nn.Module]:
        """Every step and every transition, state to state, in order."""
        return [layer for part in self._parts for layer in (part.layers if isinstance(part, Unrolled) else [part])]

    def read(self, j: int, state: Any) -> Tensor:
        """The tensor that the state after layer j stands for."""
        stage = [stage for part in self._parts for stage in _stage_by_layer(part)][j]
        return state if stage is None else stage.read(state)

    @property
    def config(self) -> dict[str, Any]:
        """What `create_model` makes this network from."""
        return dict(self._config)

    def _check(self, x: Tensor) -> None:
        if not self.info.takes_vectors and x.ndim == 4 and min(x.shape[2:]) < self.info.smallest:
            raise ValueError(
                f"{self.info.name} was given images of {x.shape[2]} x {x.shape[3]}; expected at least "
                f"{self.info.smallest} x {self.info.smallest}."
            )
        channels = x.shape[1:].numel() if self.info.takes_vectors else x.shape[1] if x.ndim == 4 else -1
        if channels != self.in_channels:
            expected = "(N, ...) with {} numbers per sample" if self.info.takes_vectors else "(N, {}, H, W)"
            raise ValueError(
                f"{self.info.name} was given a batch of shape {tuple(x.shape)}; expected "
                f"{expected.format(self.in_channels)}."
            )


Part = Unrolled | Bridge


def _positive(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least 1.")
    return number


def _stage_by_layer(part: Part) -> list[Unrolled | None]:
    """For each layer of a part, the stage whose state it leaves."""
    return [part] * len(part.layers) if isinstance(part, Unrolled) else [part.stages[1]]
