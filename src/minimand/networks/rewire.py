"""The skeleton of an algorithm around the blocks of any model, by forward hooks.

The binding is the operator's, T = the block as it stands, skip included: with momentum 0 nothing changes. What a
block returns is its answer; the hook hands on the next query in its place, and after the last block the output.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, as_algorithm
from ..names import unknown_name
from ..theory.kernel import consistency, kernel
from .coefficients import clamped, fresh, project
from .execution import Execution
from .unrolled import program_of

Model = TypeVar("Model", bound=nn.Module)

# How many containers an error lists.
_LISTED = 12


@dataclass(frozen=True)
class Rewiring:
    """What `rewire` did to a model."""

    model: nn.Module
    algorithm: Algorithm
    runs: tuple[tuple[str, ...], ...]
    """The names of the blocks, run by run."""

    def undo(self) -> nn.Module:
        """Take the hooks and the learnable coefficients off again; returns the model as it was."""
        for names in self.runs:
            for name in names:
                block = self.model.get_submodule(name)
                for key in [key for key, hook in block._forward_hooks.items() if isinstance(hook, _Hook)]:
                    del block._forward_hooks[key]
                    block._forward_hooks_with_kwargs.pop(key, None)
            first = self.model.get_submodule(names[0])
            for coefficient in self.algorithm.learnable():
                delattr(first, _parameter_name(coefficient))
        return self.model

    def __str__(self) -> str:
        lines = [f"{type(self.model).__name__} rewired by {self.algorithm}:"]
        lines += [f"  {names[0]} ... {names[-1]}  ({len(names)} blocks)" for names in self.runs]
        return "\n".join(lines)


def rewire(
    model: Model, algorithm: Algorithm | type[Algorithm] | str, where: str | Iterable[str] | None = None
) -> Model:
    """Wire the blocks of any model as an algorithm does, in place and without touching its code.

    A run is two or more consecutive children of one container, of the same class and parameter shapes, each with
    modules inside. Names in the state dict stay; learnable coefficients are added to the first block of a run as
    `rewired_...`. Shapes are checked at the first call. `rewired(model)` tells what was done and undoes it.

    Args:
        model: any module whose blocks keep the shape: of timm, torchvision, transformers, one's own.
        algorithm: asks one gradient once a step. With momentum 0 (gradient descent) the model is as it was.
        where: names of containers; by default every nn.Sequential and nn.ModuleList.

    Raises:
        ValueError: nothing matched (lists what was looked at); a model that is rewired already; an algorithm that
            asks several answers a step or is not consistent.
    """
    algorithm = as_algorithm(algorithm)
    _check_algorithm(algorithm)
    if rewired(model) is not None:
        raise ValueError(f"{type(model).__name__} is rewired already; undo it first: mm.rewired(model).undo().")
    runs = list(_runs(model, where))
    if not runs:
        raise ValueError(_nothing_found(model, where))
    for names in runs:
        blocks = [model.get_submodule(name) for name in names]
        _Run(algorithm, names, blocks).attach(blocks)
    return model


def rewired(model: nn.Module) -> Rewiring | None:
    """What `rewire` did to a model; None if nothing."""
    names: dict[_Run, list[str]] = {}
    for name, module in model.named_modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, _Hook):
                names.setdefault(hook.run, []).append(name)
    if not names:
        return None
    return Rewiring(model, next(iter(names)).algorithm, tuple(map(tuple, names.values())))


class _Run:
    """Blocks one after another, and the program that runs between them."""

    def __init__(self, algorithm: Algorithm, names: list[str], blocks: list[nn.Module]) -> None:
        self.algorithm, self.names = algorithm, names
        self.first = blocks[0]
        self.learnable = dict(algorithm.learnable())
        self.execution = self._execution()
        self.checked = False
        self._reset()

    def attach(self, blocks: list[nn.Module]) -> None:
        like = next(self.first.parameters())
        for name, vector in fresh(self.learnable, len(blocks)).items():
            self.first.register_parameter(_parameter_name(name), nn.Parameter(vector.detach().to(like.device)))
        for k, block in enumerate(blocks):
            block.register_forward_hook(_Hook(self, k), with_kwargs=True)

    def after(self, k: int, query: Tensor, answer: Tensor) -> Tensor:
        """The next query, or the output, from the answer of block k."""
        if k == 0:
            self._reset()
            self.registers[0] = query
            self.learned = self._values() if self.learnable else {}
        elif k != self.position:
            raise RuntimeError(
                f"{self.names[k]} was called out of order, without {self.names[k - 1]} before it. Rewired blocks have "
                "to run one after another; activation checkpointing of single blocks, which runs them again, "
                "cannot be combined with rewiring."
            )
        if not self.checked and not torch.compiler.is_compiling():
            self._check(k, query, answer)
        following = self.execution.answer(self.registers, k, answer, self.learned)
        self.position, self.handed_on = k + 1, following
        if self.position == len(self.names):
            self._reset()
            self.checked = True
        return following

    def _check(self, k: int, query: Tensor, answer: Tensor) -> None:
        if k > 0 and query is not self.handed_on:
            raise RuntimeError(
                f"{self.names[k]} was not given what {self.names[k - 1]} returned: these blocks are not applied one "
                "after another, or something stands between them. Name the containers to rewire by `where`."
            )
        if answer.shape != query.shape:
            raise RuntimeError(
                f"{self.names[k]} maps {tuple(query.shape)} to {tuple(answer.shape)}; a rewired block has to keep the "
                "shape. Name the containers to rewire by `where`."
            )

    def _reset(self) -> None:
        self.registers: list[Any] = [None] * self.execution.registers
        self.position = 0
        self.handed_on: Tensor | None = None
        self.learned: dict[str, tuple[Tensor, ...]] = {}

    def _values(self) -> dict[str, tuple[Tensor, ...]]:
        vectors = {name: getattr(self.first, _parameter_name(name)) for name in self.learnable}
        if self.first.training and not torch.compiler.is_compiling():
            project(self.learnable, vectors)
        return {name: vector.unbind() for name, vector in clamped(self.learnable, vectors).items()}

    def _execution(self) -> Execution:
        found = program_of(self.algorithm, len(self.names), "operator")
        if found is None:
            raise ValueError(
                f"{self.algorithm} divides by, or branches on, a learnable coefficient; rewiring needs its steps as "
                "sums. Make that coefficient constant."
            )
        return found

    def __getstate__(self) -> dict[str, Any]:
        self._reset()
        return {name: value for name, value in self.__dict__.items() if name != "execution"}  # holds closures

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.execution = self._execution()


class _Hook:
    def __init__(self, run: _Run, k: int) -> None:
        self.run, self.k = run, k

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        query = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        if isinstance(output, Tensor):
            return self.run.after(self.k, query, output)
        return type(output)([self.run.after(self.k, query, output[0]), *output[1:]])  # transformers: (hidden, ...)


def _runs(model: nn.Module, where: str | Iterable[str] | None) -> Iterator[list[str]]:
    for name, container in _containers(model, where):
        prefix = f"{name}." if name else ""
        for signature, children in groupby(container.named_children(), key=lambda child: _signature(child[1])):
            names = [prefix + child for child, _ in children]
            if signature is not None and len(names) > 1:
                yield names


def _containers(model: nn.Module, where: str | Iterable[str] | None) -> Iterator[tuple[str, nn.Module]]:
    modules = dict(model.named_modules())
    if where is None:
        yield from ((n, m) for n, m in modules.items() if isinstance(m, nn.Sequential | nn.ModuleList))
        return
    for name in [where] if isinstance(where, str) else where:
        if name not in modules:
            raise unknown_name(f"module of {type(model).__name__}", name, modules)
        yield name, modules[name]


def _signature(block: nn.Module) -> Any:
    """What two blocks of a run have in common; None of what is no block: a layer without modules inside."""
    shapes = tuple((name, tuple(p.shape)) for name, p in block.named_parameters())
    return (type(block), shapes) if shapes and any(True for _ in block.children()) else None


def _nothing_found(model: nn.Module, where: Any) -> str:
    looked = [
        f"{name or '(the model)'}: {', '.join(dict.fromkeys(type(child).__name__ for child in container.children()))}"
        for name, container in _containers(model, where)
    ]
    found = "; ".join(looked[:_LISTED]) + ("; ..." if len(looked) > _LISTED else "") if looked else "no container"
    return (
        f"nothing to rewire in {type(model).__name__}: expected two or more consecutive children of one container, of "
        f"the same class and parameter shapes. Looked at {found}."
    )


def _check_algorithm(algorithm: Algorithm) -> None:
    read = kernel(algorithm, 2)
    if not read.single or algorithm.oracles[0].startswith("prox"):
        raise ValueError(f"{algorithm} asks several answers in a step, or a prox; rewiring has one block for each step.")
    consistent, why = consistency(read)
    if not consistent:
        raise ValueError(f"{algorithm} is not consistent ({why}), so it would change a model even where it rests.")


def _parameter_name(coefficient: str) -> str:
    return f"rewired_{coefficient}"

