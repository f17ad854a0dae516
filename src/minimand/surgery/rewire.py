"""The skeleton of an algorithm around the blocks of any model, by forward hooks.

Of whole blocks the binding is the operator's, T = the block as it stands, skip included: with momentum 0 nothing
changes. What a block returns is its answer; the hook hands on the next query in its place, and after the last block
the output. Branches inside of blocks are wired by `branches`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._support.errors import MinimandError, MisuseError, unknown_name
from .._support.torch_internals import close_forward, reopen_forward, version
from ..algorithms import Algorithm, as_algorithm, is_proximal
from ..networks import repeated
from ..networks.coefficients import Values
from ..networks.kinds import check_model
from ..networks.realization.program import Execution
from ..networks.skeletons import WiringHook, skeletons
from ..networks.unrolled import program_of
from ..theory.kernel import Binding, consistency, kernel
from .branches import BranchRun
from .changes import Change, Model
from .wired import Wired, first_tensor, is_traced, tensors, with_first

_LISTED = 12  # containers in an error
_WHERE = "Name the containers to rewire by `where`."


class Rewired(Change):
    """A record of `rewire`: the runs of blocks, or of branches, that an algorithm wires now."""

    def __init__(
        self, model: nn.Module, runs: Sequence["BlockRun | BranchRun"], handles: list[RemovableHandle]
    ) -> None:
        super().__init__(model)
        self.runs, self._handles, self.references = runs, handles, runs[0].algorithm.references

    def _restore(self) -> None:
        for handle in self._handles:
            handle.remove()
        for run in self.runs:
            for name in run.hooked:
                close_forward(self.model.get_submodule(name))
            run.unregister()

    def __str__(self) -> str:
        lines = [f"{type(self.model).__name__} rewired:"]
        for run in self.runs:
            lines.append(f"  {run.names[0]} ... {run.names[-1]}  ({len(run.names)} {run.what}) by {run.learned()}")
        return "\n".join(lines)


def rewire(
    model: Model,
    algorithm: Algorithm | type[Algorithm] | str,
    where: str | Iterable[str] | None = None,
    at: Literal["blocks", "branches"] = "blocks",
) -> Model:
    """Wire the blocks of any model, or the branches inside of them, as an algorithm does, in place.

    No code of the model is touched.

    A run is two or more consecutive children of one container, of the same class and parameter shapes, each with
    modules inside. A block must not write into its input (no `inplace=True` on it). Names in the state dict stay;
    learnable coefficients are added to the first block of a run as `rewired_...`. Shapes are checked at each call
    but compiled and traced ones. `mm.changes(model)` tells what was done and undoes it.

    Args:
        model: any module whose blocks keep the shape: of timm, torchvision, transformers, one's own.
        algorithm: consistent, asks one gradient once a step. With momentum 0 (gradient descent) the model is as it was.
        where: names of containers; by default every nn.Sequential and nn.ModuleList. Where nothing matches, the error
            lists what was looked at.
        at: `blocks`, each a step, T the block with its skip (operator binding); or `branches`, the residual additions
            inside the layers of a pre-norm transformer (GPT-2, Llama, ViT, torch's encoder layer ...), each a half
            step, T the branch (residual binding): attention and map take turns, Lie-Trotter splitting.
    """
    check_model(model)
    if at not in ("blocks", "branches"):
        raise unknown_name("at of rewire", str(at), ("blocks", "branches"))
    algorithm = as_algorithm(algorithm)
    read = kernel(algorithm, 2)
    if not read.single or is_proximal(algorithm.oracles[0]):
        several = "asks several answers in a step, or a prox"
        raise MinimandError(f"{algorithm} {several}; rewiring has one block for each step.")
    consistent, why = consistency(read)
    if not consistent:
        raise MinimandError(f"{algorithm} is not consistent ({why}), so it would change a model even where it rests.")
    name = type(model).__name__
    for skeleton in skeletons(model):
        if skeleton.is_wired:
            raise MinimandError(f"{name} is rewired already; undo it first: mm.changes(model).undo().")
        raise MinimandError(f"{name} runs an algorithm already; give mm.create_model or mm.unroll another.")
    names_by_run = list(repeated.runs(model, where))
    if not names_by_run:
        raise MinimandError(_nothing_to_rewire(model, where))
    kind = BlockRun if at == "blocks" else BranchRun
    runs = [kind.of(algorithm, model, names) for names in names_by_run]
    handles = [handle for run in runs for handle in run.attach(model)]
    Rewired(model, runs, handles)
    return model


class BlockRun(Wired):
    """A run of blocks one after another, and the program that an algorithm runs between them."""

    binding: ClassVar[Binding] = "operator"
    what = "blocks"

    def __init__(self, algorithm: Algorithm, names: list[str], first: nn.Module) -> None:
        super().__init__(algorithm, names, first)
        self.execution = self._execution()
        # Versions of what the first block was given, and of what the next one has to be asked at.
        self.before: dict[int, int] = {}
        self.version = 0
        self._reset()

    @classmethod
    def of(cls, algorithm: Algorithm, model: nn.Module, names: list[str]) -> Self:
        """The run of the blocks of these names."""
        return cls(algorithm, names, model.get_submodule(names[0]))

    @property
    def hooked(self) -> list[str]:
        """The names of the modules that have hooks."""
        return self.names

    def attach(self, model: nn.Module) -> Iterator[RemovableHandle]:
        """Put the hooks on the blocks, and the learnable coefficients into the first one; the handles of the hooks."""
        self.register()
        yield self.first.register_forward_pre_hook(self.note_versions, with_kwargs=True)
        for k, name in enumerate(self.names):
            block = model.get_submodule(name)
            yield block.register_forward_hook(_After(self, k), with_kwargs=True)
            reopen_forward(block)

    def note_versions(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the versions of what the first block is given, to see whether it writes into it."""
        self.before = {} if is_traced() else {id(v): version(v) for v in tensors(args, kwargs)}

    def after(self, k: int, query: Tensor, answer: Tensor) -> Tensor:
        """The next query, or the output, from the answer of block k."""
        if k == 0:
            self._reset()
            self.registers[0] = query
            self.current = self.values(query)
        elif k != self.position:
            raise MisuseError(
                f"{self.names[k]} was called out of order, without {self.names[k - 1]} before it. Rewired blocks have "
                "to run one after another; activation checkpointing of single blocks, which runs them again, "
                "cannot be combined with rewiring."
            )
        if not is_traced():
            self._check(k, query, answer)
        following = self.execution.answer(self.registers, k, answer, self.current)
        self.position, self.handed_on, self.version = k + 1, following, version(following)
        if self.position == len(self.names):
            self._reset()
        return following

    def _check(self, k: int, query: Tensor, answer: Tensor) -> None:
        if k > 0 and query is not self.handed_on:
            why = (
                f"was not given what {self.names[k - 1]} returned: these blocks are not applied one after another, or "
                f"something stands between them. {_WHERE}"
            )
        elif version(query) != self.version:
            without = "Build its first operation without inplace=True."
            why = f"writes into its input, which the algorithm still needs. {without}"
        elif answer.shape != query.shape:
            why = f"maps {tuple(query.shape)} to {tuple(answer.shape)}; a rewired block has to keep the shape. {_WHERE}"
        else:
            return
        raise MisuseError(f"{self.names[k]} {why}")

    def _reset(self) -> None:
        self.registers: list[Any] = [None] * self.execution.registers
        self.position = 0
        self.handed_on: Tensor | None = None
        self.current: Values = {}

    def _execution(self) -> Execution:
        execution = program_of(self.algorithm, len(self.names), "operator")
        if execution is None:
            why = "divides by, or branches on, a learnable coefficient; rewiring needs its steps as sums"
            raise MinimandError(f"{self.algorithm} {why}. Make that coefficient constant.")
        return execution

    def __getstate__(self) -> dict[str, Any]:
        self._reset()
        return {name: value for name, value in self.__dict__.items() if name != "execution"}  # holds closures

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.execution = self._execution()


class _After(WiringHook):
    """A hook that takes the answer of block k, and hands on the next query or the output in its place."""

    def __init__(self, run: BlockRun, k: int) -> None:
        super().__init__(run, k)
        self.run = run

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        answer, _ = first_tensor(output)
        name = self.run.names[self.k]
        if not isinstance(answer, Tensor):
            expected = "a rewired block has to return a tensor, or a tuple that begins with one"
            raise MisuseError(f"{name} returned {type(output).__name__}; {expected}. {_WHERE}")
        inputs = tensors(args, kwargs)
        if not inputs:
            raise MisuseError(f"{name} was given no tensor; a rewired block has to be asked at one.")
        if self.k == 0:
            query = next((v for v in inputs if v.shape == answer.shape), inputs[0])
            self.run.version = self.run.before.get(id(query), 0)
        else:
            query = next((v for v in inputs if v is self.run.handed_on), inputs[0])
        return with_first(output, self.run.after(self.k, query, answer))


def _nothing_to_rewire(model: nn.Module, where: Any) -> str:
    looked = [
        f"{name or '(the model)'}: {', '.join(dict.fromkeys(type(child).__name__ for child in container.children()))}"
        for name, container in repeated.containers(model, where)
    ]
    listed = [*looked[:_LISTED], *(["..."] if len(looked) > _LISTED else [])]
    return (
        f"nothing to rewire in {type(model).__name__}: expected two or more consecutive children of one container, of "
        f"the same class and parameter shapes. Looked at {'; '.join(listed) or 'no container'}."
    )
