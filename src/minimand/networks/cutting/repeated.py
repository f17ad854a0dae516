"""The repeated blocks of any model: what `mm.rewire` wires, and where `mm.as_network` cuts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

from torch import nn

from ..._support.errors import MinimandError, unknown_name
from ..kinds import CONTAINERS, NORMALIZATIONS

_NUMBERED = re.compile(r"(.*?)(\d+)")


def containers(model: nn.Module, where: str | Iterable[str] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """The containers whose children may be blocks, by name: those named, or all that there are.

    These are every nn.Sequential and nn.ModuleList, and modules that are not inside of the blocks in those and have
    nothing but numbered children of one class, such as the b1, b2 ... of timm's RegNet; an nn.ModuleDict only where
    its class has a `forward`, as the names of another may be keys of which one is chosen.
    """
    modules = dict(model.named_modules())
    if where is None:
        plain = {n: m for n, m in modules.items() if isinstance(m, CONTAINERS)}
        inside = {m for names in _runs(plain.items()) for name in names for m in modules[name].modules()}
        yield from ((n, m) for n, m in modules.items() if n in plain or (m not in inside and _is_numbered(m)))
        return
    names = [where] if isinstance(where, str) else where
    if not isinstance(names, Iterable) or not names:
        raise MinimandError(f"where is {where!r}; expected names of containers, or None to look at all.")
    for name in names:
        if name not in modules:
            raise unknown_name(f"module of {type(model).__name__}", name, modules)
        yield name, modules[name]


def runs(model: nn.Module, where: str | Iterable[str] | None = None, same_shapes: bool = True) -> Iterator[list[str]]:
    """Two or more consecutive children of a container, of one class, parameter shapes and strides, by name.

    Those inside of the blocks of another run are part of these, but where containers are named.
    """
    in_all = list(_runs(containers(model, where), same_shapes))
    modules = dict(model.named_modules())
    free = outermost({name: modules[name] for names in in_all for name in names}) if where is None else modules
    return (names for names in in_all if names[0] in free)


def _runs(containers: Iterable[tuple[str, nn.Module]], same_shapes: bool = True) -> Iterator[list[str]]:
    for name, container in containers:
        prefix = f"{name}." if name else ""
        children_and_signatures = ((n, signature(child, same_shapes)) for n, child in container.named_children())
        for shared, children in groupby(children_and_signatures, key=lambda pair: pair[1]):
            names = [prefix + child for child, _ in children]
            if shared is not None and len(names) > 1:
                yield names


def signature(block: nn.Module, same_shapes: bool = True) -> Any:
    """The class, parameter shapes and strides that the blocks of a run share; None of what is no block.

    That is a module without any inside, or without parameters, and a normalization that holds an activation.
    """
    empty = next(block.parameters(), None) is None or next(block.children(), None) is None
    if empty or isinstance(block, NORMALIZATIONS):
        return None
    return type(block), tuple(_sizes(block).items()) if same_shapes else ()


def _sizes(block: nn.Module) -> dict[str, str]:
    """The shapes of the parameters in a block, and the strides, by name."""
    shapes = {name: str(tuple(p.shape)) for name, p in block.named_parameters()}
    return shapes | {f"{n}.stride".removeprefix("."): str(m.stride) for n, m in block.named_modules() if _has_stride(m)}


def differences(model: nn.Module) -> Iterator[str]:
    """Lines on consecutive children that are blocks of one class and no run, with what keeps them apart."""
    for name, module in model.named_modules():
        children = [(f"{name}.{n}".removeprefix("."), child) for n, child in module.named_children()]
        for (first, a), (second, b) in pairwise(children):
            if type(a) is type(b) and None not in (signature(a), signature(b)) and signature(a) != signature(b):
                sizes, others = _sizes(a), _sizes(b)
                what = next(key for key in (*sizes, *others) if sizes.get(key) != others.get(key))
                of_each = f"{sizes.get(what, 'missing')} and {others.get(what, 'missing')}"
                yield f"{first} and {second} ({type(a).__name__}) differ: {what} is {of_each}"
                break


def _has_stride(module: nn.Module) -> bool:
    return isinstance(getattr(module, "stride", None), int | tuple)


def _is_numbered(module: nn.Module) -> bool:
    """Whether the children of a module are all of one class and called alike, by consecutive numbers."""
    children = dict(module.named_children())
    matches = [_NUMBERED.fullmatch(name) for name in children]
    is_choice = isinstance(module, nn.ModuleDict) and type(module).forward is nn.Module.forward
    if is_choice or len(children) < 2 or len(set(map(type, children.values()))) > 1:
        return False
    stems = {match and match[1] for match in matches}
    numbers = [int(match[2]) for match in matches if match]
    return len(stems) == 1 and numbers == list(range(numbers[0], numbers[0] + len(children))) if numbers else False


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost blocks of a model by name.

    Those of `runs`, of different shapes too if there are no others, and what else is of their classes, such as the
    block that begins a stage. Without any run, the modules of classes of which there are several, torch's own left out;
    and without those the children of lists, as one that stands there alone may be called again and again.
    """
    modules = dict(model.named_modules())
    in_runs = [*runs(model)] or [*runs(model, same_shapes=False)]
    of_runs = outermost({name: modules[name] for names in in_runs for name in names})
    kinds = {type(m) for m in of_runs.values() if not _is_of_torch(m)}
    alike = {name: m for name, m in modules.items() if type(m) in kinds}
    if not of_runs:
        candidates = outermost({n: m for n, m in modules.items() if n and not _is_of_torch(m) and _is_composed(m)})
        counts = Counter(type(m) for m in candidates.values())
        # Nothing repeats at this level, so the next one inside is looked at.
        while candidates and max(counts.values()) < 2:
            inside = {f"{n}.{k}": m for n, c in candidates.items() for k, m in c.named_modules() if k}
            candidates = outermost({n: m for n, m in inside.items() if not _is_of_torch(m) and _is_composed(m)})
            counts = Counter(type(m) for m in candidates.values())
        alike = {name: m for name, m in candidates.items() if counts[type(m)] > 1} or _in_lists(model)
    both = {**of_runs, **alike}
    return outermost({name: both[name] for name in modules if name in both})


def _in_lists(model: nn.Module) -> dict[str, nn.Module]:
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    inside = {f"{n}.{k}".removeprefix("."): child for n, m in lists for k, child in m.named_children()}
    return {name: child for name, child in inside.items() if _is_composed(child)}


def outermost(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules, of some by name, that are in none of the others."""
    inside = {m for outer in modules.values() for m in outer.modules() if m is not outer}
    return {name: module for name, module in modules.items() if module not in inside}


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.split(".")[0] == "torch"


def _is_composed(module: nn.Module) -> bool:
    """Whether a module has children, of which one has parameters, and is no normalization with an activation."""
    has_parts = any(True for child in module.children() for _ in child.parameters())
    return has_parts and not isinstance(module, NORMALIZATIONS)
