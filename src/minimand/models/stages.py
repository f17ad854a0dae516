"""Networks of stages and of modules between them: run whole or layer by layer, with features by timm's names."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError
from ..networks.kinds import WRAPPED_NORMALIZATIONS
from ..networks.unrolled import Unrolled
from .info import integer
from .language.parts import check_tokens
from .named import NamedModel

# A twin that is made for its shapes alone has the plainest skeleton, as no skeleton changes them.
_PLAIN = {"algorithm": "gradient_descent", "memory": "store", "exact": None}


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


Part = Unrolled | Bridge


class StagedNetwork(NamedModel):
    """A named model of a stem, stages with transitions between them, and a head; timm reads its features."""

    stem: Bridge
    body: nn.ModuleList
    head: Bridge
    num_features: int
    """The length of what the classifier is given."""
    _as_map: Callable[[Tensor], Tensor] | None

    @property
    def _parts(self) -> list[Part]:
        return cast(list[Part], list(self.body))

    @property
    def stages(self) -> list[Unrolled]:
        """The stages of the network, in order, without the transitions."""
        return [part for part in self._parts if isinstance(part, Unrolled)]

    @property
    def layers(self) -> list[nn.Module]:
        """Every step and every transition, state to state, in order."""
        return [layer for part in self._parts for layer in (part.layers if isinstance(part, Unrolled) else [part])]

    def read(self, j: int, state: Any) -> Tensor:
        """The tensor that the state after layer j stands for."""
        stage = [stage for part in self._parts for stage in _stage_by_layer(part)][j]
        return state if stage is None else stage.read(state)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of a batch: images (N, in_channels, H, W), or vectors where the model takes them.

        Of tokens (N, T) where it takes those, logits (N, T, num_tokens), of the token that follows each.
        """
        return self.head.module(_through(self._parts, self._begin(x)))

    def _begin(self, x: Tensor) -> Tensor:
        if not isinstance(x, Proxy):  # a Proxy has no shape: torch.fx reads the network
            self._check(x)
        return self.stem.module(x)

    def _check(self, x: Tensor) -> None:
        info = self.info
        if info.takes_tokens:
            values = not torch.compiler.is_compiling()
            return check_tokens(info.name, x, self._config["context"], self.num_classes, values)
        if not info.takes_vectors and x.ndim == 4 and min(x.shape[2:]) < info.smallest:
            least, size = f"{info.smallest} x {info.smallest}", f"{x.shape[2]} x {x.shape[3]}"
            raise MinimandError(f"{info.name} was given images of {size}; expected at least {least}.")
        channels = x.shape[1:].numel() if info.takes_vectors else x.shape[1] if x.ndim == 4 else -1
        if channels != self.in_channels:
            expected = "(N, ...) with {} numbers per sample" if info.takes_vectors else "(N, {}, H, W)"
            expected = expected.format(self.in_channels)
            raise MinimandError(f"{info.name} was given a batch of shape {tuple(x.shape)}; expected {expected}.")

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

        `indices` are the numbers of read-outs, negative ones from the end, or how many of the last; None is all. `norm`
        normalizes those of the last stage as the head does. With `intermediates_only` the list alone is returned, else
        (what `forward_features` gives, the list).
        """
        if output_fmt != "NCHW":
            raise MinimandError(f"output_fmt is {output_fmt!r}; expected 'NCHW'.")
        taken, count = self._taken(indices), len(self._read_after)
        readouts = self._readouts(x, max(taken) + 1 if intermediates_only else count)
        maps = []
        for i in taken:
            is_normalized = norm and (self._has_one_stage or i == count - 1)
            y = _through(self._norm, readouts[i]) if is_normalized else readouts[i]
            maps.append(y if self._as_map is None else self._as_map(y))
        return maps if intermediates_only else (_through(self._norm, readouts[-1]), maps)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """For each map of `forward_intermediates` its channels, input pixels to one of its own, and module."""
        if self.info.takes_vectors or self.info.takes_tokens:
            kind = "vectors" if self.info.takes_vectors else "tokens"
            raise MinimandError(f"{self.info.name} takes {kind}; features are of models that take images.")
        side = self._config.get("image_size", self.info.image_size)
        with torch.device("meta"):
            twin = cast(Any, type(self))(**{**self.config, **_PLAIN}).eval()
            maps = twin.forward_intermediates(torch.empty(1, self.in_channels, side, side), intermediates_only=True)
        names = {module: name for name, module in self.named_modules()}
        return [
            {"num_chs": y.shape[1], "reduction": side // y.shape[2], "module": names[module]}
            for y, module in zip(maps, self._read_after, strict=False)
        ]

    def prune_intermediate_layers(self, indices: int | Sequence[int] | None, prune_norm: bool = False) -> list[int]:
        """Drop, in place, the head and the stages that some features do not need; timm's `features_only` asks for it.

        The network then gives the features of `indices` and nothing else; `prune_norm` drops the head's normalization
        too. Returns the indices, counted from 0.
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
        if self.info.takes_tokens:
            raise MinimandError(
                f"num_classes is {num_classes}, but {self.info.name} gives logits of its vocabulary; expected a model "
                "made with another num_tokens."
            )
        self.num_classes = self._config["num_classes"] = integer("num_classes", num_classes, 0)
        like = next(self.parameters())
        classifier: nn.Module = nn.Identity()
        if self.num_classes:
            classifier = nn.Linear(self.num_features, self.num_classes, device=like.device, dtype=like.dtype)
        cast(nn.Sequential, self.head.module)[-1] = classifier

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
        """The first `count` features: what the stages give, from the first one on."""
        x = self._begin(x)
        readouts: list[Tensor] = []
        if self._has_one_stage:
            (stage,) = self.stages
            state = stage.start(x)
            for layer in self.layers[:count]:
                state = layer(state)
                readouts.append(stage.read(state))
            return readouts
        for part in self._parts:
            if len(readouts) < count:
                x = _through([part], x)
                if part in self._read_after:
                    readouts.append(x)
        return readouts

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


def _through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The tensor x passed through stages, transitions and other modules, one after another."""
    for module in modules:
        x = module.module(x) if isinstance(module, Bridge) else module(x)
    return x


def _stage_by_layer(part: Part) -> list[Unrolled | None]:
    """For each layer of a part, the stage whose state it leaves."""
    return [part] * len(part.layers) if isinstance(part, Unrolled) else [part.stages[1]]
