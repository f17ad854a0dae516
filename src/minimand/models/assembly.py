"""The modules of an unrolled network: a stem, stages with transitions between them, and a head."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError
from ..algorithms import Algorithm
from ..networks.unrolled import Blocks, Unrolled, unroll
from ..theory.kernel import Binding
from .info import Parts
from .named import NamedModel


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


class Assembly(NamedModel):
    """A stem, stages with transitions between them, and a head, run stage by stage or, by `layers`, step by step."""

    algorithm: Algorithm
    binding: Binding
    num_features: int
    """The length of what the classifier is given."""
    _as_map: Callable[[Tensor], Tensor] | None

    def _assemble(self, *parts_by_oracle: Parts) -> None:
        """Make the network of a family's parts for each oracle; stem, transitions and head are those of the first."""
        parts = parts_by_oracle[0]
        stages = [
            unroll(self.algorithm, self._by_oracle(*blocks), self.binding) if blocks[0] else None
            for blocks in zip(*[[blocks for _, blocks in p.stages] for p in parts_by_oracle], strict=True)
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
        """Logits (N, num_classes) of a batch: images (N, in_channels, H, W), or vectors where the model takes them."""
        return self.head.module(through(self._parts, self._begin(x)))

    def _begin(self, x: Tensor) -> Tensor:
        if not isinstance(x, Proxy):  # a Proxy has no shape: torch.fx reads the network
            self._check(x)
        return self.stem.module(x)

    def _check(self, x: Tensor) -> None:
        info = self.info
        if not info.takes_vectors and x.ndim == 4 and min(x.shape[2:]) < info.smallest:
            raise MinimandError(
                f"{info.name} was given images of {x.shape[2]} x {x.shape[3]}; expected at least "
                f"{info.smallest} x {info.smallest}."
            )
        channels = x.shape[1:].numel() if info.takes_vectors else x.shape[1] if x.ndim == 4 else -1
        if channels != self.in_channels:
            expected = "(N, ...) with {} numbers per sample" if info.takes_vectors else "(N, {}, H, W)"
            raise MinimandError(
                f"{info.name} was given a batch of shape {tuple(x.shape)}; expected "
                f"{expected.format(self.in_channels)}."
            )


def through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The tensor x passed through stages, transitions and other modules, one after another."""
    for module in modules:
        x = module.module(x) if isinstance(module, Bridge) else module(x)
    return x


def _stage_by_layer(part: Part) -> list[Unrolled | None]:
    """For each layer of a part, the stage whose state it leaves."""
    return [part] * len(part.layers) if isinstance(part, Unrolled) else [part.stages[1]]
