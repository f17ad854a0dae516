"""Where a gradient ends: components that have no derivative."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .._support.errors import MinimandError


def learns(module: nn.Module) -> bool:
    """Whether it has parameters to train."""
    return any(p.requires_grad for p in module.parameters())


def states(modules: Iterable[nn.Module], state: Any) -> Iterator[tuple[Any, bool]]:
    """What each of some modules in a row gives, detached, and whether a gradient goes from it to what it is given.

    Args:
        modules: in evaluation mode.
        state: what the first is given: a tensor, or a tuple of tensors.

    Raises:
        ValueError: a module has parameters to train, and gives what no gradient comes from.
    """
    for j, module in enumerate(modules):
        leaves, spec = tree_flatten(state)
        leaves = [t.detach().requires_grad_(t.is_floating_point() or t.is_complex()) for t in leaves]
        with torch.enable_grad():
            state = module(tree_unflatten([t.clone() for t in leaves], spec))  # it may work in place
        found = [t for t in tree_leaves(state) if isinstance(t, Tensor) and t.requires_grad]
        if learns(module) and not found:
            raise MinimandError(
                f"layer {j} ({type(module).__name__}) has parameters to train, and no gradient comes from what it "
                "gives; expected one, or what has no derivative as a layer of its own, or requires_grad_(False)."
            )
        inputs = [t for t in leaves if t.requires_grad]
        reached = False
        if found and inputs:
            reached = any(
                g is not None
                for g in torch.autograd.grad(found, inputs, [torch.ones_like(t) for t in found], allow_unused=True)
            )
        leaves, spec = tree_flatten(state)
        state = tree_unflatten([t.detach() for t in leaves], spec)
        yield state, reached
