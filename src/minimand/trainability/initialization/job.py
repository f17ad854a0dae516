"""What a scheme is given: the layers of a model in order, and the one way to write their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..mean_field import meanfield
from ..measure.branches import Branch
from ..measure.flow import Applied
from .fans import Block, blocks
from .report import Setting
from .weights import read, sources, why_not, write

Fill = Callable[[Tensor, Block], Any]
"""Fills a float tensor of a block's shape."""
_TOKENS = ("bias_k", "bias_v")
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class Layer:
    """A layer to be set."""

    name: str
    module: nn.Module
    reads: Applied | None
    """The activation it reads the output of; None for the batch, a sum or a normalization."""
    follows: Applied | None
    """The activation that its output goes to."""
    first: bool
    """Whether it reads the batch."""

    @property
    def recurrent(self) -> bool:
        return isinstance(self.module, RECURRENT)

    def parameter(self, name: str) -> str:
        """The name of a parameter of this layer, within the model."""
        return f"{self.name}.{name}" if self.name else name

    def named(self, kind: Literal["weight", "bias"]) -> list[str]:
        """The names of its weights, or of its biases."""
        if kind == "weight":
            return [self.parameter(name) for name in dict.fromkeys(b.parameter for b in blocks(self.module, self.name))]
        if not isinstance(self.module, nn.MultiheadAttention | nn.RNNBase | nn.RNNCellBase):
            return [self.parameter("bias")] if getattr(self.module, "bias", None) is not None else []
        names = [name for name, _ in self.module.named_parameters()]
        return [self.parameter(n) for n in names if "bias" in n and n not in _TOKENS and "parametrizations" not in n]


@dataclass
class Job:
    """A model to be initialized."""

    model: nn.Module
    layers: list[Layer]
    branches: list[Branch]
    batch: Any
    target: Any
    loss: Callable[..., Tensor] | None
    depth: int
    generator: torch.Generator
    settings: dict[str, Setting] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    """Keys into references.bib, of every scheme that had a part in it."""
    before: dict[str, float] = field(default_factory=dict)
    owners: dict[nn.Parameter, str] = field(default_factory=dict)

    def fill(self, layer: Layer, rule: str, fill: Fill, gain: float | None = None) -> None:
        """Set every weight of a layer block by block, and its biases to 0."""
        for name in layer.named("weight"):
            own = [block for block in blocks(layer.module, layer.name) if layer.parameter(block.parameter) == name]

            def make(weight: Tensor, own: Sequence[Block] = own) -> None:
                for block in own:
                    fill(block.of(weight), block)

            self.set(name, rule, make, own[0].fan_in, own[0].fan_out, gain)
        for name in layer.named("bias"):
            self.set(name, "0", nn.init.zeros_)

    def set(
        self,
        name: str,
        rule: str,
        make: Callable[[Tensor], Any],
        fan_in: float | None = None,
        fan_out: float | None = None,
        gain: float | None = None,
    ) -> None:
        """Set a parameter to what `make` does to its value, in float32 at least and on the generator's device."""
        if not self.may_set(name):
            return
        old = read(self.model, name)
        self.before.setdefault(name, deviation(old))
        value = old.to(self.generator.device, torch.promote_types(old.dtype, torch.float32), copy=True)
        value = value.contiguous()
        with torch.no_grad():
            make(value)
        write(self.model, name, value.to(old.device, old.dtype))
        self.settings[name] = Setting(name, rule, fan_in, fan_out, gain, self.before[name], 0.0)

    def may_set(self, name: str) -> bool:
        """Whether a parameter may be written; if not, notes why."""
        if name in self.left_alone:
            return False
        why = why_not(self.model, name)
        for parameter in sources(self.model, name):
            holder = self.owners.setdefault(parameter, name)
            if holder != name:
                why = f"shares its values with {holder}"
        if why:
            self.left_alone[name] = why
        return why is None

    def multiply(self, name: str, factor: float) -> None:
        """Multiply a parameter that has been set."""
        done = self.settings.get(name)
        fans = (None, None, None) if done is None else (done.fan_in, done.fan_out, done.gain)
        rule = f"{'' if done is None else done.rule} x {factor:.4g}".strip()
        self.set(name, rule, lambda value: value.mul_(factor), *fans)

    def resize(self, branch: Branch, factor: float) -> None:
        """Multiply what a branch adds."""
        for name in self.size_of(branch):
            self.multiply(name, factor)

    def size_of(self, branch: Branch) -> list[str]:
        """The parameters that the output of a branch is proportional to: of its last normalization or last layers."""
        if branch.norm is not None and getattr(self.model.get_submodule(branch.norm), "weight", None) is not None:
            return [f"{branch.norm}.{leaf}" for leaf in ("weight", "bias") if _has(self.model, branch.norm, leaf)]
        found = []
        for end in branch.ends:
            module = self.model.get_submodule(end)
            inner = f"{end}.out_proj" if isinstance(module, nn.MultiheadAttention) else end
            if not _has(self.model, inner, "weight"):
                raise MinimandError(
                    f"{end} ({type(module).__name__}) ends a branch; its output has no one scale to set."
                )
            found += [f"{inner}.{leaf}" for leaf in ("weight", "bias") if _has(self.model, inner, leaf)]
        return found

    def need(self, what: Literal["batch", "branches"], scheme: str) -> None:
        """Raise ValueError if the batch, or the branches, that a scheme works on were not given or found."""
        if what == "batch" and self.batch is None:
            raise MinimandError(f"{scheme} measures the model on data; give batch=, what the model is called with.")
        if what == "branches" and not self.branches:
            kinds = ", ".join(sorted({type(m).__name__ for m in self.model.modules()}))
            raise MinimandError(
                f"{scheme} sets residual branches, and none was found in {type(self.model).__name__}: expected the "
                "stages of an mm.unroll, or, if batch= is given, sums of a skip and what layers make of it. Name the "
                f"modules whose output is added by branches=(...). Looked at {kinds}."
            )

    def normal(self, std: float) -> Fill:
        """Gaussian entries."""
        return lambda weight, block: nn.init.normal_(weight, 0.0, std, generator=self.generator)


def deviation(value: Tensor) -> float:
    """The standard deviation of all entries."""
    return float(value.float().std(correction=0)) if value.numel() else 0.0


@lru_cache(maxsize=256)
def gain(activation: Applied | None) -> float:
    """By how much weights of variance 1 / fan_in have to grow to make up for an activation: E phi(z)^2 back to 1."""
    return 1.0 if activation is None else meanfield.gain(activation.function)


def _has(model: nn.Module, module: str, leaf: str) -> bool:
    return isinstance(getattr(model.get_submodule(module), leaf, None), Tensor)
