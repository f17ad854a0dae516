"""The repeated blocks that one pass shows to run one after another, in whatever containers they stand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import version
from ..arguments import as_arguments
from ..undisturbed import undisturbed
from .repeated import containers, outermost, signature


@dataclass
class Chains:
    """What a pass shows of the blocks that are alike."""

    runs: list[list[str]]
    """The names of two or more blocks, each of them given what the one before it returned."""
    apart: list[str]
    """Why others, alike and side by side, are in no run."""


@dataclass
class _Call:
    """One call of a block of a chain: the shapes that went in and came out."""

    shapes: list[tuple[int, ...]]
    """The shapes of the tensors that it was given."""
    after: list[str]
    """The blocks that returned one of these tensors, which nobody wrote into since."""
    output: tuple[int, ...] | None = None
    """The shape of the tensor that it returned, first or alone; None without one."""


@dataclass
class _Pass:
    """The calls of blocks in a pass, and the tensors that they returned."""

    calls: dict[str, list[_Call]]
    returned: dict[int, tuple[str, Tensor, int]] = field(default_factory=dict)
    """Who returned a tensor last, with its version then, by its id; it is held, so that no other takes this id."""

    def enter(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what a block is given."""
        tensors = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        writers = [self.returned[id(t)] for t in tensors if id(t) in self.returned]
        after = [writer for writer, tensor, was in writers if version(tensor) == was]
        self.calls[name].append(_Call([tuple(t.shape) for t in tensors], after))

    def leave(self, name: str, output: Any) -> None:
        """Note the shape of what the block of a name returned, in its last call."""
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor):
            self.calls[name][-1].output = tuple(first.shape)
            self.returned[id(first)] = name, first, version(first)


def chains(model: nn.Module, example: Any, where: str | Iterable[str] | None = None) -> Chains:
    """The runs of blocks of one class, parameter shapes and strides that a pass of `example` shows in a model.

    The model runs once, in evaluation mode, and is left as it was. A block of a run is called once in the pass and
    keeps the shape; the next one, and no other that is alike, is given the very tensor that it returned. What is alike
    inside of such blocks is part of them.

    Args:
        model: any module.
        example: a few inputs: a tensor, a tuple of positional or a mapping of named arguments.
        where: names of the containers whose children are looked at; all modules by default.
    """
    modules = dict(model.named_modules())
    names: Iterable[str] = modules
    if where is not None:
        names = [f"{n}.{c}".removeprefix(".") for n, m in containers(model, where) for c, _ in m.named_children()]
    by_kind: dict[Any, list[str]] = {}
    for name in names:
        if (kind := signature(modules[name])) is not None:
            by_kind.setdefault(kind, []).append(name)
    groups = [group for group in by_kind.values() if len(group) > 1]
    passes = [_Pass({name: [] for name in group}) for group in groups]
    _run(model, example, passes, modules)
    runs = [run for group in passes for run in _linked(group.calls)]
    outer = outermost({name: modules[name] for run in runs for name in run})
    runs = [run for run in runs if run[0] in outer]
    inside = {m for run in runs for name in run for m in modules[name].modules()}
    apart = [_apart({n: c for n, c in group.calls.items() if modules[n] not in inside}) for group in passes]
    order = list(modules)
    return Chains(sorted(runs, key=lambda run: order.index(run[0])), [line for lines in apart for line in lines])


def _run(model: nn.Module, example: Any, passes: Sequence[_Pass], modules: Mapping[str, nn.Module]) -> None:
    handles = []
    for group in passes:
        for name in group.calls:

            def enter(module: nn.Module, args: Any, kwargs: Any, group: _Pass = group, name: str = name) -> None:
                group.enter(name, args, kwargs)

            def leave(module: nn.Module, args: Any, output: Any, group: _Pass = group, name: str = name) -> None:
                group.leave(name, output)

            handles.append(modules[name].register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(modules[name].register_forward_hook(leave))
    args, kwargs = as_arguments(example)
    try:
        with undisturbed(model), torch.no_grad():
            model.eval()
            model(*args, **kwargs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the model's code may raise anything
        raise MinimandError(
            f"{type(model).__name__} fails on the example ({type(error).__name__}: {error}); expected a few of its "
            "inputs: a tensor, a tuple of positional or a mapping of named arguments."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _linked(calls: Mapping[str, list[_Call]]) -> list[list[str]]:
    """The runs among blocks that are alike."""
    following = {a: after[0] for a, after in _followers(calls).items() if _why_apart(a, after, calls) is None}
    runs = []
    for name in following.keys() - set(following.values()):
        run = [name]
        while run[-1] in following:
            run.append(following[run[-1]])
        runs.append(run)
    return runs


def _followers(calls: Mapping[str, list[_Call]]) -> dict[str, list[str]]:
    """The blocks that were given what a block returned, for each block."""
    followers: dict[str, list[str]] = {name: [] for name in calls}
    for name, of_this in calls.items():
        for before in dict.fromkeys(before for call in of_this for before in call.after if before in calls):
            followers[before].append(name)
    return followers


def _why_apart(a: str, after: Sequence[str], calls: Mapping[str, list[_Call]]) -> str | None:
    """Why block a and the blocks `after`, which were given what it returned, make no run; None where they do."""
    if len(after) > 1:
        return f"what {a} returned was given to {' and '.join(after)}"
    for name in (a, *after):
        if len(calls[name]) != 1:
            return f"{name} was called {len(calls[name])} times"
        (call,) = calls[name]
        if not call.shapes or call.output is None:
            return f"{name} {'returned' if call.shapes else 'was given'} no tensor, or not as an argument of its own"
        if call.output not in call.shapes:
            return f"{name} maps {', '.join(map(str, call.shapes))} to {call.output}"
        if len(call.after) > 1:
            return f"{name} was given what {' and '.join(call.after)} returned"
    return None if after else ""


def _apart(calls: Mapping[str, list[_Call]]) -> list[str]:
    """Why blocks that stand side by side are in no run, a line for each pair."""
    by_parent: dict[str, list[str]] = {}
    for name in calls:
        by_parent.setdefault(name.rpartition(".")[0], []).append(name)
    followers = _followers(calls)
    lines = []
    for siblings in by_parent.values():
        for a, b in pairwise(siblings):
            why = _why_apart(a, followers[a] or [b], calls)
            if why is None and b not in followers[a]:
                why = f"{b} was not given what {a} returned"
            lines += [why] if why else []
    return list(dict.fromkeys(lines))
