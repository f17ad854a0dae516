"""The skeleton of an algorithm around the residual branches inside the layers of a pre-norm transformer, by hooks.

A layer computes r + a for the stream r that enters a branch and its answer a. A hook hands on q - r in place of a, q
the next query, so the layer itself computes q; with momentum 0 that is a, to the bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._support.errors import MinimandError, MisuseError
from .._support.torch.internals import reopen_forward
from ..algorithms import Algorithm
from ..networks.coefficients import Values
from ..networks.realization.increments import Increments
from ..networks.skeletons import WiringHook
from ..theory.kernel import Binding
from ..theory.scalars import UnknownCoefficientError
from .wired import Wired, first_tensor, is_traced, tensors, with_first

# Of a layer, by the names of its modules: where the stream enters each branch, and what gives the branch's answer.
LAYOUTS: dict[str, tuple[tuple[str, str], ...]] = {
    "GPT-2": (("ln_1", "attn"), ("ln_2", "mlp")),
    "Llama and its kin": (("input_layernorm", "self_attn"), ("post_attention_layernorm", "mlp")),
    "transformers' ViT": (("layernorm_before", "dropout"), ("layernorm_after", "dropout")),
    "timm's ViT": (("norm1", "drop_path1"), ("norm2", "drop_path2")),
    "torch's encoder layer, norm_first": (("norm1", "dropout1"), ("norm2", "dropout2")),
    "BERT with layer normalization before": (
        ("attention.LayerNorm", "attention.output.dropout"),
        ("intermediate.LayerNorm", "output.dropout"),
    ),
}


@dataclass(frozen=True)
class Branch:
    """A residual branch, by the names of the module where the stream enters and of the one that gives the answer."""

    enters: str
    leaves: str


@dataclass
class BranchPass:
    """What is known between the hooks of one forward pass."""

    values: Values
    """The tables of the algorithm's coefficients."""
    memory: dict[Any, Tensor] = field(default_factory=dict)
    position: int = 0
    """The number of the branch that is entered or comes next."""
    stream: Tensor | None = None
    """The stream that entered the branch; None between two branches."""
    expected: Tensor | None = None
    """The stream that has to enter the next branch, while that is checked."""


class BranchRun(Wired[BranchPass]):
    """The branches of a run of layers one after another, and the increments that an algorithm makes between them."""

    binding: ClassVar[Binding] = "residual"
    what = "branches"

    def __init__(self, algorithm: Algorithm, branches: list[Branch], first: nn.Module) -> None:
        super().__init__(algorithm, [branch.leaves for branch in branches], first)
        self.branches = branches
        self.increments = self._increments()
        self.is_checked = False

    @classmethod
    def of(cls, algorithm: Algorithm, model: nn.Module, names: list[str]) -> Self:
        """The run of the branches in the layers of these names; raises MinimandError where a layer has none known."""
        branches = [branch for name in names for branch in _branches(name, model.get_submodule(name))]
        return cls(algorithm, branches, model.get_submodule(names[0]))

    @property
    def hooked(self) -> list[str]:
        """The names of the modules that have hooks."""
        return list(dict.fromkeys(name for branch in self.branches for name in (branch.enters, branch.leaves)))

    def attach(self, model: nn.Module) -> Iterator[RemovableHandle]:
        """Put the hooks where branches enter and leave, and the coefficients into the first layer; the handles."""
        self.register()
        for k, branch in enumerate(self.branches):
            yield model.get_submodule(branch.enters).register_forward_pre_hook(_Enters(self, k), with_kwargs=True)
            yield model.get_submodule(branch.leaves).register_forward_hook(_Leaves(self, k), with_kwargs=True)
        for name in self.hooked:
            reopen_forward(model.get_submodule(name))

    def enter(self, k: int, stream: Tensor) -> None:
        """Note the stream that enters branch k."""
        if self.suspended:
            self.entered = k
            return
        if k == 0:
            self.begin(BranchPass(self.values(stream)))
        this = self.current
        if this is None or k != this.position:
            raise MisuseError(
                f"{self.branches[k].enters} was called out of order, without {self.names[k - 1]} before it. Rewired "
                "branches have to run one after another; activation checkpointing of single layers, which runs them "
                "again, cannot be combined with rewiring."
            )
        if this.expected is not None and not is_traced() and not torch.equal(stream, this.expected):
            raise MisuseError(
                f"{self.branches[k].enters} was not given the stream that entered {self.branches[k - 1].enters} plus "
                f"what {self.names[k - 1]} answered: something stands between them. Rewire whole blocks instead: "
                "at='blocks'."
            )
        this.stream = stream

    def leave(self, k: int, answer: Tensor) -> Tensor:
        """What the layer has to add to the stream in place of the answer of branch k."""
        this = self.current
        if this is None or this.stream is None or answer.shape != this.stream.shape:
            shapes = "no stream" if this is None or this.stream is None else f"a stream {tuple(this.stream.shape)}"
            raise MisuseError(
                f"{self.names[k]} answered {tuple(answer.shape)} to {shapes}; a branch has to keep the shape."
            )
        increment = self.increments.after(k, answer, this.memory, this.values)
        if not self.is_checked and not is_traced():
            this.expected = this.stream + increment
        this.position, this.stream = k + 1, None
        if this.position == len(self.names):
            self.end()
            self.is_checked = True
        return increment

    def is_in(self, k: int) -> bool:
        """Whether this thread's pass is inside of branch k."""
        this = self.current
        return this is not None and this.stream is not None and this.position == k

    def _increments(self) -> Increments:
        try:
            return Increments(self.coefficients.unknown(), len(self.names))
        except UnknownCoefficientError:
            why = "divides by, or branches on, a learnable coefficient; rewiring needs its steps as sums"
            raise MinimandError(f"{self.algorithm} {why}. Make that coefficient constant.") from None

    def __getstate__(self) -> dict[str, Any]:
        # Closures cannot be copied, and passes belong to the threads of this model.
        return {**{name: value for name, value in vars(self).items() if name != "increments"}, "_passes": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.increments = self._increments()


class _Enters:
    """A hook that notes the stream that enters branch k."""

    def __init__(self, run: BranchRun, k: int) -> None:
        self.run, self.k = run, k

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        streams = tensors(args, kwargs)
        if not streams:
            raise MisuseError(f"{self.run.branches[self.k].enters} was given no tensor; expected the stream.")
        self.run.enter(self.k, streams[0])


class _Leaves(WiringHook):
    """A hook that takes the answer of branch k, and hands on what the layer has to add in its place."""

    def __init__(self, run: BranchRun, k: int) -> None:
        super().__init__(run, k)
        self.run = run

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.run.suspended and self.run.entered != self.k:
            return output
        if not self.run.suspended and not self.run.is_in(self.k):  # a module may serve several branches
            return output
        answer, _ = first_tensor(output)
        if not isinstance(answer, Tensor):
            raise MisuseError(f"{self.run.names[self.k]} returned {type(output).__name__}; expected a tensor first.")
        if self.run.suspended:
            return self._asked(output, answer)
        return with_first(output, self.run.leave(self.k, answer))

    def _asked(self, output: Any, answer: Tensor) -> Any:
        """The output while branches are asked one by one: of all but one nothing is added to the stream."""
        if self.run.asking is None:
            return output
        if self.run.asking == self.k:
            self.run.captured = answer
            return output
        return with_first(output, answer.new_zeros(()).expand_as(answer))


def _branches(name: str, layer: nn.Module) -> list[Branch]:
    """The branches of a layer, in order."""
    modules = dict(layer.named_modules())
    for layout in LAYOUTS.values():
        if all(part in modules for pair in layout for part in pair):
            break
    else:
        children = ", ".join(child for child, _ in layer.named_children())
        raise MinimandError(
            f"{name} ({type(layer).__name__}, with {children}) has no residual branches that are known here; expected "
            f"a pre-norm layer as of {', '.join(LAYOUTS)}. at='blocks' wires whole blocks of any model."
        )
    if getattr(layer, "norm_first", True) is False:
        raise MinimandError(f"{name} normalizes after its branches (norm_first=False); expected a pre-norm layer.")
    if not {"crossattention", "multihead_attn"}.isdisjoint(modules):
        raise MinimandError(
            f"{name} has cross-attention between its branches, which is wired nowhere; expected one without."
        )
    return [Branch(*(f"{name}.{part}" for part in pair)) for pair in layout]
