"""The skeleton of an algorithm around the repeated blocks of a model, by hooks.

The binding is the operator's, T = the block as it stands, skip included: with momentum 0 nothing changes. What a block
returns is its answer; the hook hands on the next query in its place, and after the last block the output.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._support.errors import MinimandError, MisuseError
from .._support.torch.internals import reopen_forward, version
from ..algorithms import Algorithm
from ..networks.coefficients import Values
from ..networks.realization.program import Execution
from ..networks.skeletons import WiringHook
from ..networks.unrolled import program_of
from ..theory.kernel import Binding
from .wired import Wired, first_tensor, is_traced, named_tensors, tensors, with_first

_WHERE = "Name the containers to rewire by `where`, or give `example`, a few inputs, to see what runs in a row."


@dataclass
class BlockPass:
    """What is known between the hooks of one forward pass."""

    registers: list[Any]
    versions: dict[int, int]
    """Versions of the tensors that the first block was given, by their ids."""
    position: int = 0
    """The number of blocks that have answered."""
    values: Values = field(default_factory=dict)
    """The tables of the algorithm's coefficients."""
    handed_on: Tensor | None = None
    """What the next block has to be given."""
    version: int = 0
    """The version that a block's input has to have when the block has answered."""
    guess: str | None = None
    """The argument that the first block was taken to be asked at, where that is not known."""


class BlockRun(Wired[BlockPass]):
    """A run of blocks one after another, and the program that an algorithm runs between them."""

    binding: ClassVar[Binding] = "operator"
    what = "blocks"

    def __init__(self, algorithm: Algorithm, names: list[str], first: nn.Module) -> None:
        super().__init__(algorithm, names, first)
        self.execution = self._execution()
        self.parameters = list(inspect.signature(first.forward).parameters)
        # The argument at which blocks are asked, known once one block was given what the one before it handed on.
        self.asked_at: str | None = None

    @classmethod
    def of(cls, algorithm: Algorithm, model: nn.Module, names: list[str]) -> Self:
        """The run of the blocks of these names."""
        return cls(algorithm, names, model.get_submodule(names[0]))

    @property
    def hooked(self) -> list[str]:
        """The names of the modules that have hooks."""
        return self.names

    def attach(self, model: nn.Module) -> Iterator[RemovableHandle]:
        """Put the hooks on the blocks, and the learnable coefficients into the first one; the handles of the hooks.

        They run before other hooks, which so see what the rewired model hands on, as those of hidden states have to.
        """
        self.register()
        yield self.first.register_forward_pre_hook(self.enter, with_kwargs=True)
        for k, name in enumerate(self.names):
            block = model.get_submodule(name)
            yield block.register_forward_hook(_After(self, k), with_kwargs=True, prepend=True)
            reopen_forward(block)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a pass, and note the versions of what the first block is given, to see whether it is written into."""
        versions = {} if is_traced() else {id(v): version(v) for v in tensors(args, kwargs)}
        self.begin(BlockPass([None] * self.execution.registers, versions))

    def query(self, k: int, inputs: dict[str, Tensor], answer: Tensor) -> Tensor:
        """The argument of block k that it is asked at: what the block before it handed on."""
        this = self._pass(k)
        if k == 0:
            name = self.asked_at if self.asked_at in inputs else self._first_asked_at(this, inputs, answer)
        else:
            name = next((n for n, v in inputs.items() if v is this.handed_on), None)
            if name is not None and not is_traced():
                self.asked_at = name
                if this.guess not in (None, name):
                    raise MisuseError(
                        f"{self.names[0]} was given several tensors of the shape of its answer, and {this.guess!r} "
                        f"was taken for the state; by what {self.names[k]} was given it is {name!r}. This is known "
                        "from now on: call the model once more."
                    )
        query = inputs[name] if name is not None else next(iter(inputs.values()))
        if k == 0:
            this.version = this.versions.get(id(query), 0)
        return query

    def _first_asked_at(self, this: BlockPass, inputs: dict[str, Tensor], answer: Tensor) -> str:
        """The argument that has the shape of the answer; of several the likeliest, which the next block verifies."""
        alike = {n: v for n, v in inputs.items() if v.shape == answer.shape and v.is_floating_point()}
        if not alike:
            return next(iter(inputs))
        unmasked = [n for n in alike if "mask" not in n]
        name = [*(n for n in unmasked if alike[n].requires_grad), *unmasked, *alike][0]
        if any(value is not alike[name] for value in alike.values()):
            if is_traced():
                raise MisuseError(
                    f"{self.names[0]} was given several tensors of the shape of its answer: {', '.join(alike)}. Which "
                    "is the state is known after a call that is not compiled or traced: call the model once before."
                )
            this.guess = name
        return name

    def after(self, k: int, query: Tensor, answer: Tensor) -> Tensor:
        """The next query, or the output, from the answer of block k."""
        this = self._pass(k)
        if k == 0:
            this.registers[0] = query
            this.values = self.values(query)
        if not is_traced():
            self._check(k, this, query, answer)
        following = self.execution.answer(this.registers, k, answer, this.values)
        this.position, this.handed_on, this.version = k + 1, following, version(following)
        if this.position == len(self.names):
            self.end()
        return following

    def _pass(self, k: int) -> BlockPass:
        this = self.current
        if this is None or this.position != k:
            raise MisuseError(
                f"{self.names[k]} was called out of order, without {self.names[k - 1]} before it. Rewired blocks have "
                "to run one after another; activation checkpointing of single blocks, which runs them again, "
                "cannot be combined with rewiring."
            )
        return this

    def _check(self, k: int, this: BlockPass, query: Tensor, answer: Tensor) -> None:
        if k > 0 and query is not this.handed_on:
            why = (
                f"was not given what {self.names[k - 1]} returned: these blocks are not applied one after another, or "
                f"something stands between them. {_WHERE}"
            )
        elif version(query) != this.version:
            without = "Build its first operation without inplace=True."
            why = f"writes into its input, which the algorithm still needs. {without}"
        elif answer.shape != query.shape:
            shapes = f"{tuple(query.shape)} to {tuple(answer.shape)}"
            leave_out = "" if k else f" Or leave it out: exclude={self.names[k]!r}."
            why = f"maps {shapes}; a rewired block has to keep the shape. {_WHERE}{leave_out}"
        else:
            return
        raise MisuseError(f"{self.names[k]} {why}")

    def _execution(self) -> Execution:
        execution = program_of(self.algorithm, len(self.names), "operator")
        if execution is None:
            why = "divides by, or branches on, a learnable coefficient; rewiring needs its steps as sums"
            raise MinimandError(f"{self.algorithm} {why}. Make that coefficient constant.")
        return execution

    def __getstate__(self) -> dict[str, Any]:
        # Closures cannot be copied, and passes belong to the threads of this model.
        return {**{name: value for name, value in vars(self).items() if name != "execution"}, "_passes": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.execution = self._execution()


class _After(WiringHook):
    """A hook that takes the answer of block k, and hands on the next query or the output in its place."""

    def __init__(self, run: BlockRun, k: int) -> None:
        super().__init__(run, k)
        self.run = run

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.run.suspended or self.run.is_answered:
            return output
        answer, _ = first_tensor(output)
        name = self.run.names[self.k]
        if not isinstance(answer, Tensor):
            expected = "a rewired block has to return a tensor, or a tuple that begins with one"
            raise MisuseError(f"{name} returned {type(output).__name__}; {expected}. {_WHERE}")
        inputs = named_tensors(args, kwargs, self.run.parameters)
        if not inputs:
            raise MisuseError(f"{name} was given no tensor; a rewired block has to be asked at one.")
        return with_first(output, self.run.after(self.k, self.run.query(self.k, inputs, answer), answer))
