"""The network that an algorithm gives: a named model with an algorithm for its skeleton."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from ..algorithms import Algorithm, as_algorithm, is_map, specification
from ..networks.memory.choice import Memory, check_memory
from ..networks.unrolled import Blocks, Unrolled, unroll
from ..theory.kernel import Binding
from .info import Block, ModelInfo, Parts, model_info, without_skeleton
from .language.generation import generate
from .stages import Bridge, Part, StagedNetwork


class UnrolledNetwork(StagedNetwork):
    """A named model with an algorithm for its skeleton.

    `forward` runs every stage by its cheapest realization; `stem`, `layers` and `head` are the same network
    step by step, as the algorithm is written. `mm.create_model` makes one; `save_pretrained`,
    `from_pretrained` and `push_to_hub` store and load one. Features and the classifier go by timm's names.
    """

    binding: Binding

    def __init__(
        self,
        model: str,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        binding: Binding | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
        normalization: str | Sequence[str] = (),
        activation: str | None = None,
        weight_bits: int | None = None,
        parametrization: str | None = None,
        memory: Memory = "store",
        exact: bool | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        info = model_info(model)
        if info.binding is None:
            raise MinimandError(f"{without_skeleton(info)}; mm.create_model makes it.")
        # Text here may come from a folder.
        self.algorithm = as_algorithm(algorithm or info.algorithm, allow_files=False)
        self.binding = binding or info.binding
        check_memory(memory, exact)
        self.memory: Memory = memory
        self.exact = exact
        skeleton = {"algorithm": specification(self.algorithm), "binding": self.binding}
        skeleton |= {} if memory == "store" else {"memory": memory, "exact": exact}
        self._describe(model, num_classes, in_channels, settings, **skeleton)
        sizes = {name: value for name, value in self._config.items() if name not in ("model", *skeleton)}
        if not info.takes_tokens:
            sizes["num_classes"] = self.num_classes or 1
        self._assemble(*self._built(sizes | self._inputs(info)))
        if self.num_classes == 0:
            self.reset_classifier(0)
        self._change(normalization, activation, weight_bits, parametrization)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        algorithm: Algorithm | type[Algorithm] | str | None = None,
        **options: Any,
    ) -> Self:
        """The network that `save_pretrained` or `push_to_hub` stored; the options are those of the Hugging Face hub.

        Raises:
            MinimandError: the stored algorithm is not built in and has to be given: no folder decides what code runs.
        """
        if algorithm is not None:
            options["algorithm"] = as_algorithm(algorithm)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    def _built(self, sizes: Mapping[str, Any]) -> list[Parts]:
        """The family's parts: for each oracle that is learned, or once where the family cuts its layers for them."""
        build = partial(self.info.build, binding=self.binding, **sizes)
        if "oracles" in signature(self.info.build).parameters:
            return [cast(Parts, build(oracles=self._learned))]
        return [cast(Parts, build()) for _ in self._learned]

    def _assemble(self, *parts_by_oracle: Parts) -> None:
        """Make the network of a family's parts for each oracle; stem, transitions and head are those of the first."""
        parts = parts_by_oracle[0]
        stages = [
            self._stage(self._by_oracle(parts.normalize, *blocks)) if blocks[0] else None
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

    def _stage(self, blocks: Blocks) -> Unrolled:
        return unroll(self.algorithm, blocks, self.binding, self.memory, self.exact)

    def _inputs(self, info: ModelInfo) -> dict[str, int]:
        """The argument of a family that says how many inputs its stem has to give, where it is more than one."""
        names = self.algorithm.inputs
        if len(names) == 1:
            return {}
        if "inputs" not in signature(info.build).parameters:
            zero = " or first_velocity='zero'" if hasattr(self.algorithm, "first_velocity") else ""
            raise MinimandError(
                f"{self.algorithm} starts from {len(names)} inputs ({', '.join(names)}), but the stem of {info.name} "
                f"gives one; expected a family of language models{zero}."
            )
        return {"inputs": len(names)}

    def _by_oracle(self, normalize: Callable[[], nn.Module] | None, *blocks: Sequence[Block]) -> Blocks:
        oracles = self.algorithm.oracles
        if len(oracles) == 1:
            return blocks[0]
        if normalize is None and any(map(is_map, oracles)):
            raise MinimandError(
                f"{self.algorithm} normalizes a part of its state, for which {self.info.name} has no normalization; "
                "expected a model of tokens or vectors, such as gpt_nano, vit_tiny or mlp."
            )

        def layer(answers: Sequence[Block]) -> dict[str, nn.Module]:
            by_name: Any = answers[0]
            if isinstance(by_name, nn.Module):
                by_name = dict(zip(self._learned, answers, strict=True))
            return {name: normalize() if normalize is not None and is_map(name) else by_name[name] for name in oracles}

        return [layer(answers) for answers in zip(*blocks, strict=True)]

    @property
    def _learned(self) -> list[str]:
        """The oracles that learned blocks answer."""
        return [oracle for oracle in self.algorithm.oracles if not is_map(oracle)]

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue tokens (N, T): (N, T + max_new_tokens), each new token drawn from the model's distribution.

        Keys and values are remembered, so that a new token costs one position; beyond the context, the window of the
        last `context` tokens is read anew for each. The mode of the model stays as it was.

        Args:
            tokens: prompts of equal length, at least one token each.
            temperature: divides the logits; 0 takes the likeliest token.
            top_k: the number of likeliest tokens that are drawn from; by default all.
            generator: by default torch's own random state.

        Raises:
            MinimandError: a model that takes no tokens, a prompt that it does not take, settings out of range.
        """
        return generate(self, tokens, max_new_tokens, temperature, top_k, generator)
