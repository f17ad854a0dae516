"""The skeleton of an algorithm in any model, by forward hooks: around its blocks, or the branches inside of them."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

from torch import nn
from torch.utils.hooks import RemovableHandle

from .._support.errors import MinimandError, unknown_name
from .._support.torch.internals import close_forward
from ..algorithms import Algorithm, as_algorithm, is_proximal
from ..networks.cutting import repeated
from ..networks.cutting.chains import Chains, chains
from ..networks.kinds import check_model
from ..networks.memory.choice import Memory, backward_recurrence, check_memory
from ..networks.skeletons import skeletons
from ..theory.kernel import consistency, kernel
from .blocks import BlockRun
from .branches import LAYOUTS, BranchRun
from .changes import Change, Model
from .taken_over import TakenOver

_LISTED = 12  # containers, or reasons, in an error


class Rewired(Change):
    """A record of `rewire`: the runs of blocks, or of branches, that an algorithm wires now."""

    def __init__(
        self,
        model: nn.Module,
        runs: Sequence[BlockRun | BranchRun],
        handles: list[RemovableHandle],
        left_out: list[str],
        taken: Sequence[TakenOver] = (),
    ) -> None:
        super().__init__(model)
        self.taken = taken
        self.runs, self._handles, self.references = runs, handles, runs[0].algorithm.references
        self.left_out = left_out

    @property
    def differences(self) -> list[float | None]:
        """How far the states of the first training batch ended from where they did before, relative, of each run.

        Empty where layers store everything; None before the first batch.
        """
        return [taken.difference for taken in self.taken]

    def _restore(self) -> None:
        for taken in self.taken:
            taken.restore()
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
        for taken in self.taken:
            far = "not compared yet" if taken.difference is None else f"{taken.difference:.2g} of their size"
            how = f"  memory={taken.run.memory!r}"
            lines.append(f"{how}; from those before, the states of a first batch end at a distance of: {far}")
        return "\n".join([*lines, *self.left_out])


def rewire(
    model: Model,
    algorithm: Algorithm | type[Algorithm] | str,
    where: str | Iterable[str] | None = None,
    at: Literal["blocks", "branches"] = "blocks",
    exclude: str | Iterable[str] = (),
    memory: Memory = "store",
    exact: bool | None = None,
    example: Any = None,
) -> Model:
    """Wire the blocks of any model, or the branches inside of them, as an algorithm does, in place.

    No code of the model is touched.

    A run is two or more consecutive children of one container, of the same class, parameter shapes and strides, each
    with modules inside; with an `example`, such blocks anywhere, each given what the one before returned. What is alike
    inside of the blocks of a run is part of them. A block must not write into its input (no `inplace=True` on it).
    Names in the state dict stay; learnable coefficients are added to the first block of a run as `rewired_...`. Shapes
    are checked at each call but compiled and traced ones. `mm.changes(model)` tells what was done and undoes it.

    Args:
        model: any module whose blocks keep the shape: of timm, torchvision, transformers, one's own.
        algorithm: consistent, asks one gradient once a step. With momentum 0 (gradient descent) the model is as it was.
        where: names of containers; by default every nn.Sequential and nn.ModuleList, and modules that hold nothing but
            numbered blocks; with an `example` all modules. Where nothing matches, the error lists what was looked at.
        at: `blocks`, each a step, T the block with its skip (operator binding); or `branches`, the residual additions
            inside the layers of a pre-norm transformer (GPT-2, Llama, ViT, torch's encoder layer ...), each a half
            step, T the branch (residual binding): attention and map take turns, Lie-Trotter splitting.
        exclude: names of blocks that stay as they are; those before and behind one are runs of their own.
        memory: what layers keep for the backward pass, as of `mm.unroll`; "reversible" trains a run in that of one.
            After a batch `print(mm.changes(model))` says how far its states end from where they did.
        exact: with "reversible", whether states are kept to the last bit; by default where rounding asks for it.
        example: a few inputs, a tensor, a tuple of positional or a mapping of named arguments: the model runs once, and
            what runs one after another in that pass is wired, in whatever containers it stands.
    """
    check_model(model)
    check_memory(memory, exact)
    if at not in ("blocks", "branches"):
        raise unknown_name("at of rewire", str(at), ("blocks", "branches"))
    algorithm = _checked(algorithm)
    name = type(model).__name__
    for skeleton in skeletons(model):
        if skeleton.is_wired:
            raise MinimandError(f"{name} is rewired already; undo it first: mm.changes(model).undo().")
        raise MinimandError(f"{name} runs an algorithm already; give mm.create_model or mm.unroll another.")
    in_pass = None if example is None else chains(model, example, where)
    names_by_run = list(repeated.runs(model, where)) if in_pass is None else in_pass.runs
    if not names_by_run:
        raise MinimandError(_nothing_to_rewire(model, where, at, in_pass))
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    names_by_run = _without(names_by_run, excluded, model)
    kind = BlockRun if at == "blocks" else BranchRun
    runs = [kind.of(algorithm, model, names) for names in names_by_run]
    handles, taken = _attached(model, runs, names_by_run, memory, exact)
    lines = _left_out(model, names_by_run, excluded)
    if in_pass is not None and in_pass.apart:
        lines.append(f"  alike, but in no row: {_listed(in_pass.apart)}")
    Rewired(model, runs, handles, lines, taken)
    return model


def _checked(algorithm: Algorithm | type[Algorithm] | str) -> Algorithm:
    """The algorithm; raises MinimandError for one that asks for more than a gradient a step, or is not consistent."""
    algorithm = as_algorithm(algorithm)
    read = kernel(algorithm, 2)
    if not read.single or is_proximal(algorithm.oracles[0]):
        several = "asks several answers in a step, or a prox"
        raise MinimandError(f"{algorithm} {several}; rewiring has one block for each step.")
    consistent, why = consistency(read)
    if not consistent:
        raise MinimandError(f"{algorithm} is not consistent ({why}), so it would change a model even where it rests.")
    return algorithm


def _attached(
    model: nn.Module,
    runs: Sequence[BlockRun | BranchRun],
    names_by_run: list[list[str]],
    memory: Memory,
    exact: bool | None,
) -> tuple[list[RemovableHandle], list[TakenOver]]:
    """Put the hooks on the runs, and take the layers over that are to keep less."""
    for run in runs:
        if memory == "reversible":
            backward_recurrence(run.algorithm, len(run.names), run.binding)
        run.memory, run.exact = memory, exact
    handles = [handle for run in runs for handle in run.attach(model)]
    taken: list[TakenOver] = []
    for run, names in zip(runs, names_by_run, strict=True) if memory != "store" else ():
        layers = [model.get_submodule(layer) for layer in names]
        taken.append(TakenOver(run, layers, len(run.names) // len(layers)))
    return handles, taken


def _without(names_by_run: list[list[str]], exclude: Iterable[str], model: nn.Module) -> list[list[str]]:
    """The runs without the blocks excluded: those before and behind one are runs of their own."""
    blocks = [name for names in names_by_run for name in names]
    for name in exclude:
        if name not in blocks:
            raise unknown_name(f"block of {type(model).__name__} to exclude", name, blocks)
    parts = [list(part) for names in names_by_run for out, part in groupby(names, set(exclude).__contains__) if not out]
    remaining = [part for part in parts if len(part) > 1]
    if not remaining:
        where = ", ".join(exclude)
        raise MinimandError(f"exclude leaves no two consecutive blocks of {type(model).__name__} to rewire: {where}.")
    return remaining


def _left_out(model: nn.Module, names_by_run: list[list[str]], exclude: Collection[str]) -> list[str]:
    """Lines on the blocks that stand beside rewired ones, are of their class, and stay as they are."""
    rewired = [name for names in names_by_run for name in names]
    alike = {repeated.signature(model.get_submodule(name)) for name in rewired}
    lines: dict[str, str] = {}
    for prefix, kind in dict.fromkeys((n.rpartition(".")[0], type(model.get_submodule(n))) for n in rewired):
        for child, module in model.get_submodule(prefix).named_children():
            name = f"{prefix}.{child}".removeprefix(".")
            if type(module) is kind and name not in rewired:
                is_alike = repeated.signature(module) in alike
                why = "alone, or not in a row with them" if is_alike else "of other shapes or strides"
                lines[name] = f"  {name} stays as it is: {'excluded' if name in exclude else why}"
    return list(lines.values())


def _nothing_to_rewire(model: nn.Module, where: Any, at: str, in_pass: Chains | None) -> str:
    name = type(model).__name__
    if in_pass is not None:
        apart = [*in_pass.apart, *repeated.differences(model)]
        return (
            f"nothing to rewire in {name}: expected two or more blocks of one class, parameter shapes and strides, "
            f"each given what the one before returned. In a pass of the example: {_listed(apart, 'no blocks alike')}."
        )
    looked = [
        f"{name or '(the model)'}: {', '.join(dict.fromkeys(type(child).__name__ for child in container.children()))}"
        for name, container in repeated.containers(model, where)
    ]
    if at == "branches":
        return (
            f"nothing to rewire in {name}, which has no residual branches that are known here: expected two or more "
            f"consecutive pre-norm layers as of {', '.join(LAYOUTS)}. Looked at {_listed(looked, 'no container')}. "
            "at='blocks' wires whole blocks; mm.unroll(algorithm, branches) is a stage of branches of your own."
        )
    apart = [*repeated.differences(model)]
    why = f" Of one class, but no run: {_listed(apart)}." if apart else ""
    alike = [f"{names[0]} ... {names[-1]}" for names in repeated.runs(model, list(dict(model.named_modules())))]
    why += f" Alike, but perhaps not one after another: {_listed(alike)}." if alike else ""
    return (
        f"nothing to rewire in {name}: expected two or more consecutive children of one container, of the same class "
        f"and parameter shapes. Looked at {_listed(looked, 'no container')}.{why} An example=, a few inputs, shows "
        "what runs one after another in any container."
    )


def _listed(lines: list[str], none: str = "") -> str:
    return "; ".join([*lines[:_LISTED], *(["..."] if len(lines) > _LISTED else [])]) or none
