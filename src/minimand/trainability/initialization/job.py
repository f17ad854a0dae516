"""What a scheme is given: the layers of a model in order, and the one way to write their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..mean_field import critical_points
from ..measure.branches import Branch
from ..measure.flow import AppliedActivation
from .fans import WeightBlock, weight_blocks
from .report import Setting
from .weighted_layers import WeightedLayer
from .weights import read, sources, why_not, write

Need = Literal["batch", "branches", "loss"]
"""What a scheme may not do without; a loss comes with its target."""

BlockFill = Callable[[Tensor, WeightBlock], Any]
"""A function that fills a float tensor of a block's shape."""


@dataclass
class Job:
    """A model to be initialized: its layers and branches in order, what it is called with, and what was done to it."""

    model: nn.Module
    layers: list[WeightedLayer]
    branches: list[Branch]
    batch: Any
    target: Any
    loss: Callable[..., Tensor] | None
    depth: int
    """The number of layers that a critical point is chosen for."""
    generator: torch.Generator
    """The source of all random numbers, on its device."""
    settings: dict[str, Setting] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    """The reason why a parameter or module was left as it was, by name."""
    notes: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    """Keys into references.bib of every scheme that had a part in it."""
    before: dict[str, float] = field(default_factory=dict)
    """The standard deviation of each parameter before it was set, by name."""
    owners: dict[nn.Parameter, str] = field(default_factory=dict)
    """The name under which a parameter was first asked for, which alone may set it."""

    def fill(self, layer: WeightedLayer, rule: str, fill: BlockFill, gain: float | None = None) -> None:
        """Set every weight of a layer block by block, and its biases to 0."""
        for name in layer.named("weight"):
            blocks = [b for b in weight_blocks(layer.module, layer.name) if layer.parameter(b.parameter) == name]

            def fill_blocks(weight: Tensor, blocks: Sequence[WeightBlock] = blocks) -> None:
                for block in blocks:
                    fill(block.of(weight), block)

            self.set(name, rule, fill_blocks, blocks[0].fan_in, blocks[0].fan_out, gain)
        for name in layer.named("bias"):
            self.set(name, "0", nn.init.zeros_)

    def set(
        self,
        name: str,
        rule: str,
        fill: Callable[[Tensor], Any],
        fan_in: float | None = None,
        fan_out: float | None = None,
        gain: float | None = None,
    ) -> None:
        """Set a parameter to what `fill` makes of its value, in float32 at least and on the generator's device."""
        if not self.may_set(name):
            return
        old = read(self.model, name)
        self.before.setdefault(name, deviation(old))
        value = old.to(self.generator.device, torch.promote_types(old.dtype, torch.float32), copy=True)
        value = value.contiguous()
        with torch.no_grad():
            fill(value)
        write(self.model, name, value.to(old.device, old.dtype))
        self.settings[name] = Setting(name, rule, fan_in, fan_out, gain, self.before[name], 0.0)

    def may_set(self, name: str) -> bool:
        """Whether a parameter may be written; if not, `left_alone` says why."""
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
        """Multiply a parameter, whether it has been set or not."""
        before = self.settings.get(name) or Setting(name, "", None, None, None, 0.0, 0.0)
        rule = f"{before.rule} x {factor:.4g}".strip()
        self.set(name, rule, lambda value: value.mul_(factor), before.fan_in, before.fan_out, before.gain)

    def resize(self, branch: Branch, factor: float) -> None:
        """Multiply what a branch adds to its skip."""
        for name in self.size_of(branch):
            self.multiply(name, factor)

    def size_of(self, branch: Branch) -> list[str]:
        """The parameters that the output of a branch is proportional to: of its last normalization or last layers."""
        if branch.norm is not None and getattr(self.model.get_submodule(branch.norm), "weight", None) is not None:
            return [f"{branch.norm}.{leaf}" for leaf in ("weight", "bias") if _has(self.model, branch.norm, leaf)]
        names = []
        for end in branch.ends:
            module = self.model.get_submodule(end)
            inner = f"{end}.out_proj" if isinstance(module, nn.MultiheadAttention) else end
            if not _has(self.model, inner, "weight"):
                raise MinimandError(
                    f"{end} ({type(module).__name__}) ends a branch; its output has no one scale to set."
                )
            names += [f"{inner}.{leaf}" for leaf in ("weight", "bias") if _has(self.model, inner, leaf)]
        return names

    def need(self, what: Need, scheme: str) -> None:
        """Raise ValueError if what a scheme works on, the batch, the branches or the loss, is not there."""
        if what == "batch" and self.batch is None:
            raise MinimandError(f"{scheme} measures the model on data; give batch=, what the model is called with.")
        if what == "loss" and (self.loss is None or self.target is None):
            raise MinimandError(
                f"{scheme} follows the gradient of a loss; give loss=, such as F.cross_entropy, and target=."
            )
        if what == "branches" and not self.branches:
            kinds = ", ".join(sorted({type(m).__name__ for m in self.model.modules()}))
            raise MinimandError(
                f"{scheme} sets residual branches, and none was found in {type(self.model).__name__}: expected the "
                "stages of an mm.unroll, or, if batch= is given, sums of a skip and what layers make of it. Name the "
                f"modules whose output is added by branches=(...). Looked at {kinds}."
            )

    def normal(self, std: float) -> BlockFill:
        """What fills a weight with Gaussian entries of a standard deviation."""
        return lambda weight, block: nn.init.normal_(weight, 0.0, std, generator=self.generator)


def deviation(value: Tensor) -> float:
    """The standard deviation of all entries of a tensor; 0 for one without entries."""
    return float(value.float().std(correction=0)) if value.numel() else 0.0


@lru_cache(maxsize=256)
def gain(activation: AppliedActivation | None) -> float:
    """The factor of weights of variance 1 / fan_in that makes up for an activation: it brings E phi(z)^2 back to 1."""
    return 1.0 if activation is None else critical_points.gain(activation.function)


def _has(model: nn.Module, module: str, leaf: str) -> bool:
    return isinstance(getattr(model.get_submodule(module), leaf, None), Tensor)
