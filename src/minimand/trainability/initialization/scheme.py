"""Schemes of initialization by name: functions of a job and of options, found by being in the folder `schemes`.

Another package decorates such a function by `minimand.trainability.scheme`, or not, and names it in the entry-point
group `minimand.schemes`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.names.calls import call_with, parse_call
from ..._support.names.registry import Registry
from ..._support.torch.internals import own_parameters
from ...networks.kinds import layers
from ..mean_field import critical_points
from ..measure.flow import AppliedActivation
from ..measure.tracing import Branch
from .report import Setting
from .weighted_layers import WeightBlock, WeightedLayer, weight_blocks
from .weights import read, sources, why_not, write

Need = Literal["batch", "branches", "loss"]
"""What a scheme may not do without; a loss comes with its target."""

BlockFill = Callable[[Tensor, WeightBlock], Any]
"""A function that fills a float tensor of a block's shape."""

SchemeRule = Callable[..., Any]
"""A function of a `Job` and of options by keyword; a text that it returns stands in the report."""

Decorated = TypeVar("Decorated", bound=SchemeRule)


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
    """Keys into references.bib of every scheme that set something of the model."""
    sets_rates: bool = False
    """Whether the scheme set factors on learning rates too."""
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
        earlier = self.settings.get(name)
        std_before = deviation(old) if earlier is None else earlier.std_before
        value = old.to(self.generator.device, torch.promote_types(old.dtype, torch.float32), copy=True).contiguous()
        with torch.no_grad():
            fill(value)
        write(self.model, name, value.to(old.device, old.dtype))
        self.settings[name] = Setting(name, rule, fan_in, fan_out, gain, std_before, 0.0)

    def may_set(self, name: str) -> bool:
        """Whether a parameter may be written; if not, `left_alone` says why."""
        if name in self.left_alone:
            return False
        why = why_not(self.model, name)
        for parameter in sources(self.model, name):
            outside = self._held_outside.get(parameter, [])
            if outside and name not in outside:
                why = f"shares its values with {outside[0]}, which is no layer"
            holder = self.owners.setdefault(parameter, name)
            if holder != name:
                why = f"shares its values with {holder}"
        if why:
            self.left_alone[name] = why
        return why is None

    @cached_property
    def _held_outside(self) -> dict[nn.Parameter, list[str]]:
        """The names of parameters within modules that are no layers, such as an embedding."""
        inside = {module for layer in layers(self.model).values() for module in layer.modules()}
        names: dict[nn.Parameter, list[str]] = {}
        for path, module in self.model.named_modules():
            for leaf, parameter in own_parameters(module).items() if module not in inside else ():
                if parameter is not None:
                    names.setdefault(parameter, []).append(f"{path}.{leaf}".removeprefix("."))
        return names

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
        names = self.leaves(branch.norm) if branch.norm is not None else []
        if names:
            return names
        for end in branch.ends:
            module = self.model.get_submodule(end)
            inner = f"{end}.out_proj" if isinstance(module, nn.MultiheadAttention) else end
            if not self.leaves(inner):
                raise MinimandError(
                    f"{end} ({type(module).__name__}) ends a branch; its output has no one scale to set."
                )
            names += self.leaves(inner)
        return names

    def was_sized(self, branch: Branch) -> bool:
        """Whether what sizes a branch was set: its factor, or the weights that end it, which may be frozen."""
        names = {*self.size_of(branch), *([branch.factor] if branch.factor else [])}
        return branch.factor in self.settings or all(n in self.settings for n in names if n.endswith("weight"))

    def note_on_branches(self, factor: float) -> None:
        """Note by which factor the branches were multiplied, and how many were left alone."""
        left = sum(not self.was_sized(branch) for branch in self.branches)
        others = f" {left} of them end in what was left alone, and are as they were." if left else ""
        count = "1 branch," if len(self.branches) == 1 else f"{len(self.branches)} branches, each"
        self.notes.append(f"{count} times {factor:.4g}.{others}")

    def leaves(self, module: str) -> list[str]:
        """The names of the weight and the bias of a module; none if it has no weight."""
        owner = self.model.get_submodule(module)
        leaves = [leaf for leaf in ("weight", "bias") if isinstance(getattr(owner, leaf, None), Tensor)]
        return [f"{module}.{leaf}".removeprefix(".") for leaf in leaves] if "weight" in leaves else []

    def need(self, what: Need, scheme: str) -> None:
        """Raise MinimandError if what a scheme works on, the batch, the branches or the loss, is not there."""
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


@dataclass(frozen=True)
class Scheme:
    """A rule that sets the weights of a model, by name, with what it cannot do without."""

    name: str
    rule: SchemeRule
    needs: tuple[Need, ...] = ()
    """What has to be there before the rule is called: a batch, residual branches, a loss with its target."""
    traced: bool = True
    """Whether the rule asks which activation a layer reads: a batch then runs through the model before."""
    references: tuple[str, ...] = ()

    def __call__(self, job: Job, options: dict[str, Any]) -> Any:
        """Set the weights of the job's layers; options that the rule does not take are an error."""
        for need in self.needs:
            job.need(need, self.name)
        job.references += self.references
        return call_with(partial(self.rule, job), options, f"the scheme {self.name}")


class SchemeRegistry(Registry[Scheme]):
    """The schemes by name; a plain function of a job becomes a scheme that needs nothing."""

    def add(self, name: str, thing: Scheme | SchemeRule) -> Scheme:
        """Register a scheme, or a function of a job, under a name."""
        if not isinstance(thing, Scheme):
            registered = self._things.get(name)
            thing = registered if registered is not None and registered.rule is thing else Scheme(name, thing)
        return super().add(name, thing)


def _check_scheme(thing: Any) -> None:
    if not callable(thing) or isinstance(thing, type):
        raise WrongTypeError(f"{thing!r} is no scheme; expected a Scheme, or a function of a Job.")


SCHEMES = SchemeRegistry(
    "scheme",
    "schemes",
    "minimand.trainability.initialization.schemes",
    accepts=_check_scheme,
    about=lambda scheme: (inspect.getdoc(scheme.rule) or "").partition("\n")[0],
)
"""The schemes of `initialize` by name."""


def scheme(
    name: str, *, needs: tuple[Need, ...] = (), traced: bool = True, references: tuple[str, ...] = ()
) -> Callable[[Decorated], Decorated]:
    """A decorator that registers a function of a `Job` as the scheme of a name; its options are those of `Scheme`."""

    def register(rule: Decorated) -> Decorated:
        SCHEMES.add(name, Scheme(name, rule, needs, traced, references))
        return rule

    return register


def list_schemes() -> dict[str, str]:
    """A line about each scheme of `initialize`, by name."""
    return SCHEMES.lines()


def read_scheme(chosen: str | Scheme | SchemeRule) -> tuple[Scheme, dict[str, Any]]:
    """The scheme and the options of a text such as `critical(q=0.5)`; or of a scheme, or a function of a job."""
    if isinstance(chosen, Scheme):
        return chosen, {}
    if callable(chosen):
        registered = next((known for known in SCHEMES.values() if known.rule is chosen), None)
        return registered or Scheme(getattr(chosen, "__name__", repr(chosen)), chosen), {}
    name, options = parse_call(chosen, "scheme")
    return SCHEMES.named(name), options


def deviation(value: Tensor) -> float:
    """The standard deviation of all entries of a tensor; 0 for one without entries."""
    return float(value.float().std(correction=0)) if value.numel() else 0.0


@lru_cache(maxsize=256)
def gain(activation: AppliedActivation | None) -> float:
    """The factor of weights of variance 1 / fan_in that makes up for an activation: it brings E phi(z)^2 back to 1."""
    return 1.0 if activation is None else critical_points.gain(activation.function)
