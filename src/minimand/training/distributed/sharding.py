"""Modules whose parameters are sharded over processes (FSDP2) while they are trained, and whole again after."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..._support.errors import MinimandError
from ..._support.torch.internals import ModuleSnapshot, is_view, own_parameters, tree_flatten, tree_unflatten
from ..._support.torch.modes import evaluation_mode
from ...data import call, tensor_of
from ...networks.unrolled import Unrolled, UnrolledLayer


class Shards:
    """Modules, built alike, whose parameters, gradients and moments are sharded in place, and gathered where used."""

    def __init__(self, modules: Sequence[nn.Module], x: Any) -> None:
        from torch.distributed.fsdp import fully_shard

        for name, p in modules[0].named_parameters():
            if p.ndim == 0:
                raise MinimandError(
                    f"parameter {name} is a single number without dimensions, which FSDP cannot shard; expected the "
                    "shape (1,), or parallel='ddp'."
                )
        called, _ = usage(modules[0], x)
        units = [name for name, m in modules[0].named_modules() if m in {*_units(modules[0], modules[0], called)}]
        # FSDP has no way back of its own.
        self._before = [ModuleSnapshot.of(m) for m in dict.fromkeys(m for module in modules for m in module.modules())]
        self._strides = {p: p.stride() for module in modules for p in module.parameters()}
        for p in self._strides:
            p.data = p.data.contiguous()  # which is all that FSDP takes
        for module in modules:
            for unit in units:
                module.get_submodule(unit).register_forward_hook(_without_views)
                fully_shard(module.get_submodule(unit))
            # What is only evaluated is used again in parts, without a backward pass to part it.
            fully_shard(module, reshard_after_forward=None if module is modules[0] else True)
        for p in self._strides:
            p.data = p.data.new_empty(0)

    def restore(self) -> None:
        """Put whole weights into the parameters that the modules had."""
        waiting = dict(self._strides)
        for before in self._before:
            for name, p in before.parameters.items():
                if p in waiting:
                    now = self.whole(own_parameters(before.module)[name])
                    p.data = torch.empty_strided(now.shape, waiting.pop(p), dtype=now.dtype, device=now.device)
                    p.data.copy_(now)
        for before in self._before:
            before.restore()

    def whole(self, x: Tensor | None) -> Tensor:
        """A tensor whose parts are in all processes, which have to ask together; any other as it is."""
        from torch.distributed.tensor import DTensor

        assert x is not None
        return x.full_tensor().detach() if isinstance(x, DTensor) else x.detach()

    def part(self, x: Tensor, like: Tensor) -> Tensor:
        """This process's part of a whole tensor, if it belongs to one of that shape that is sharded."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(like, DTensor) or x.shape != like.shape:
            return x
        return distribute_tensor(x.to(like.device), like.device_mesh, like.placements)


def _without_views(module: nn.Module, args: Any, outputs: Any) -> Any:
    """The outputs of a module, of which FSDP loses sight where one is a view that is written into later."""
    leaves, spec = tree_flatten(outputs)
    return tree_unflatten([x.clone() if isinstance(x, Tensor) and is_view(x) else x for x in leaves], spec)


def _units(root: nn.Module, module: nn.Module, called: set[nn.Module]) -> Iterator[nn.Module]:
    """The modules that are gathered at a time: the members of lists and chains, and of a stage the blocks."""
    listed = isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential | UnrolledLayer)
    for child in module.children():
        is_part = isinstance(child, UnrolledLayer | Unrolled)
        if listed and child in called and not is_part and _stands_alone(child, root):
            yield child
        else:
            yield from _units(root, child, called)


def _stands_alone(unit: nn.Module, root: nn.Module) -> bool:
    """Whether a module has parameters that nothing else has: those that are tied have to stay together."""
    uses_inside, uses_everywhere = _uses(unit), _uses(root)
    return bool(uses_inside) and all(uses_everywhere[p] == count for p, count in uses_inside.items())


def _uses(module: nn.Module) -> Counter[nn.Parameter]:
    return Counter(p for _, p in module.named_parameters(remove_duplicate=False))


def usage(module: nn.Module, x: Any) -> tuple[set[nn.Module], set[Tensor]]:
    """The modules that a forward pass in evaluation mode calls, and the parameters on which its outputs depend."""
    called: set[nn.Module] = set()
    handle = register_module_forward_pre_hook(lambda part, _: called.add(part))
    try:
        with evaluation_mode(module), torch.enable_grad():
            outputs = tensor_of(call(module, x))
    finally:
        handle.remove()
    return called, _leaves(getattr(outputs, "grad_fn", None))


def _leaves(function: Any) -> set[Tensor]:
    leaves: set[Tensor] = set()
    waiting, visited = [function], {None}
    while waiting:
        function = waiting.pop()
        if function not in visited:
            visited.add(function)
            if hasattr(function, "variable"):
                leaves.add(function.variable)
            waiting += [above for above, _ in function.next_functions]
    return leaves
