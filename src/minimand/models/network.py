"""The network that an algorithm gives: a stem, stages with transitions between them, and a head."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError
from ..algorithms import Algorithm, as_algorithm, specification
from ..layers.stochastic_depth import DropPath
from ..layers.thresholds import as_threshold
from ..networks.kinds import WRAPPED_NORMALIZATIONS
from ..networks.unrolled import Blocks, Unrolled, unroll
from ..surgery.harden import harden, hardened
from ..surgery.normalize import normalize, normalized
from ..theory.kernel import Binding
from .info import Parts, integer, model_info


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
    `from_pretrained` and `push_to_hub` store and load one. Features and the classifier go by timm's names.
    """

    def __init__(
        self,
        model: str,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        binding: Binding | None = None,
        num_classes: int = 10,
        in_channels: int = 3,
        normalization: str | Sequence[str] = (),
        activation: str | None = None,
        weight_bits: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        info = model_info(model)
        # Text here may come from a folder.
        self.algorithm = as_algorithm(algorithm or info.algorithm, allow_files=False)
        self.binding: Binding = binding or info.binding
        self.info = info
        self.num_classes, self.in_channels = integer("num_classes", num_classes, 0), integer("in_channels", in_channels)
        settings = info.complete(settings)
        self._config = {
            "model": model,
            "algorithm": specification(self.algorithm),
            "binding": self.binding,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            **settings,
        }
        sizes = {"num_classes": self.num_classes or 1, "in_channels": self.in_channels, **settings}
        # As many blocks in a layer as it asks oracles.
        self._assemble(*[info.build(binding=self.binding, **sizes) for _ in self.algorithm.oracles])
        if self.num_classes == 0:
            self.reset_classifier(0)
        for kind in [normalization] if isinstance(normalization, str) else normalization:
            normalize(self, kind)
        if activation is not None:
            harden(self, as_threshold(activation), weight_bits)
        elif weight_bits is not None:
            raise MinimandError(
                f"weight_bits is {weight_bits}, but activation is None; few-bit weights go with activation='sign'."
            )

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
        # Weights that are not there, or not taken, are another model's.
        return super().from_pretrained(pretrained_model_name_or_path, **given, **{"strict": True, **options})

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Store the network in a folder; the options are those of the Hugging Face hub."""
        self._hub_mixin_config = self.config
        return super().save_pretrained(save_directory, **options)

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
        self.num_features = cast(nn.Linear, parts.head[-1]).in_features
        self._as_map = parts.as_map

    def _by_oracle(self, *blocks: Sequence[nn.Module]) -> Blocks:
        if len(blocks) == 1:
            return blocks[0]
        return [dict(zip(self.algorithm.oracles, layer, strict=True)) for layer in zip(*blocks, strict=True)]

    @property
    def _parts(self) -> list["Part"]:
        return cast(list[Part], list(self.body))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of a batch: images (N, in_channels, H, W), or vectors where the model takes them."""
        return self.head.module(_through(self._parts, self._begin(x)))

    def _begin(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.stem.module(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """What `forward_head` pools: (N, num_features, H, W), or the tokens; normalized where the head begins so."""
        return _through(self._norm, _through(self._parts, self._begin(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of what `forward_features` gave, or with `pre_logits` what the classifier is given."""
        modules = self._head[len(self._norm) :]
        return _through(modules[:-1] if pre_logits else modules, x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The read-out of every stage, (N, C, H, W) as `feature_info` says; in a network of one stage, of every layer.

        Args:
            x: a batch of images.
            indices: which ones, counted from 0 or, negative, from the end; a number for as many of the last; None
                for all.
            norm: normalize those of the last stage as the head does.
            output_fmt: "NCHW".
            intermediates_only: return the list alone, not (what `forward_features` gives, the list).

        Raises:
            ValueError: there is no such read-out, or no such format.
        """
        if output_fmt != "NCHW":
            raise MinimandError(f"output_fmt is {output_fmt!r}; expected 'NCHW'.")
        taken, count = self._taken(indices), len(self._read_after)
        found = self._readouts(x, max(taken) + 1 if intermediates_only else count)
        maps = []
        for i in taken:
            y = _through(self._norm, found[i]) if norm and (self._has_one_stage or i == count - 1) else found[i]
            maps.append(y if self._as_map is None else self._as_map(y))
        return maps if intermediates_only else (_through(self._norm, found[-1]), maps)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Of each of `forward_intermediates`: its channels, the pixels of the input to one of its own, its module.

        Raises:
            ValueError: the model takes vectors.
        """
        if self.info.takes_vectors:
            raise MinimandError(f"{self.info.name} takes vectors; features are of models that take images.")
        side = self._config.get("image_size", self.info.image_size)
        with torch.device("meta"):  # shapes alone; no algorithm changes them
            twin = UnrolledNetwork(**{**self.config, "algorithm": "gradient_descent"}).eval()
            maps = twin.forward_intermediates(torch.empty(1, self.in_channels, side, side), intermediates_only=True)
        names = {module: name for name, module in self.named_modules()}
        return [
            {"num_chs": y.shape[1], "reduction": side // y.shape[2], "module": names[module]}
            for y, module in zip(maps, self._read_after, strict=False)
        ]

    def prune_intermediate_layers(self, indices: int | Sequence[int] | None, prune_norm: bool = False) -> list[int]:
        """Drop, in place, the head and the stages that some features do not need; timm's `features_only` asks for it.

        Args:
            indices: as for `forward_intermediates`, which is all that the network is for then.
            prune_norm: also drop what `norm` there needs.

        Returns:
            The indices, counted from 0.
        """
        taken = self._taken(indices)
        if not self._has_one_stage:
            last = self._read_after[max(taken)]
            self.body = self.body[: list(self.body).index(last) + 1]
        self.head.module = nn.Sequential(*([] if prune_norm else self._norm), nn.Identity())
        return taken

    def get_classifier(self) -> nn.Module:
        """The last linear map; `nn.Identity` if there is none."""
        return self._head[-1]

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier on, in place; with 0 none: the network then gives its `num_features` features."""
        self.num_classes = self._config["num_classes"] = integer("num_classes", num_classes, 0)
        like = next(self.parameters())
        cast(nn.Sequential, self.head.module)[-1] = (
            nn.Linear(self.num_features, self.num_classes, device=like.device, dtype=like.dtype)
            if self.num_classes
            else nn.Identity()
        )

    @property
    def _head(self) -> list[nn.Module]:
        return list(cast(nn.Sequential, self.head.module))

    @property
    def _norm(self) -> list[nn.Module]:
        """What the head does before it pools."""
        return list(takewhile(lambda m: isinstance(m, (*WRAPPED_NORMALIZATIONS, nn.ReLU)), self._head))

    @property
    def _has_one_stage(self) -> bool:
        return len(self._parts) == 1

    @property
    def _read_after(self) -> list[nn.Module]:
        """The modules after which a feature is read: the last one of each stage, or of one stage the layers."""
        if self._has_one_stage:
            return self.layers
        parts = self._parts
        return [part for part, then in zip(parts, [*parts[1:], None], strict=True) if not isinstance(then, Unrolled)]

    def _readouts(self, x: Tensor, count: int) -> list[Tensor]:
        """The first `count` features."""
        x = self._begin(x)
        found: list[Tensor] = []
        if self._has_one_stage:
            (stage,) = self.stages
            state = stage.start(x)
            for layer in self.layers[:count]:
                state = layer(state)
                found.append(stage.read(state))
            return found
        for part in self._parts:
            if len(found) < count:
                x = _through([part], x)
                if part in self._read_after:
                    found.append(x)
        return found

    def _taken(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self._read_after)
        taken = range(count) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
        if not taken or not all(-count <= i < count for i in taken):
            what = "layers" if self._has_one_stage else "stages"
            raise MinimandError(
                f"indices is {indices!r}; {self.info.name} has {count} {what}: expected numbers from {-count} to "
                f"{count - 1}, or how many of the last."
            )
        return [i % count for i in taken]

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
        kinds = [done.kind for done in normalized(self)]
        return {**self._config, **({"normalization": kinds} if kinds else {}), **hardened(self)}

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib of what the family and the algorithm do not say."""
        return DropPath.references if self._config.get("drop_path") else ()

    def _check(self, x: Tensor) -> None:
        if isinstance(x, Proxy):  # torch.fx reads the network
            return
        if not self.info.takes_vectors and x.ndim == 4 and min(x.shape[2:]) < self.info.smallest:
            raise MinimandError(
                f"{self.info.name} was given images of {x.shape[2]} x {x.shape[3]}; expected at least "
                f"{self.info.smallest} x {self.info.smallest}."
            )
        channels = x.shape[1:].numel() if self.info.takes_vectors else x.shape[1] if x.ndim == 4 else -1
        if channels != self.in_channels:
            expected = "(N, ...) with {} numbers per sample" if self.info.takes_vectors else "(N, {}, H, W)"
            raise MinimandError(
                f"{self.info.name} was given a batch of shape {tuple(x.shape)}; expected "
                f"{expected.format(self.in_channels)}."
            )


Part = Unrolled | Bridge


def _through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module.module(x) if isinstance(module, Bridge) else module(x)
    return x


def _stage_by_layer(part: Part) -> list[Unrolled | None]:
    """For each layer of a part, the stage whose state it leaves."""
    return [part] * len(part.layers) if isinstance(part, Unrolled) else [part.stages[1]]
