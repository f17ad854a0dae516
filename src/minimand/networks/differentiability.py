"""Which modules of a chain a gradient goes through: some components have no derivative."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from .._support.torch_internals import tree_flatten, tree_leaves, tree_unflatten


def learns(module: nn.Module) -> bool:
    """Whether a module has parameters to train."""
    return any(p.requires_grad for p in module.parameters())


def states(modules: Iterable[nn.Module], state: Any) -> Iterator[tuple[Any, bool]]:
    """The output of each module of a chain, detached, and whether a gradient goes from it to the module's input.

    Args:
        modules: the modules, in evaluation mode.
        state: the input of the first: a tensor, or a tuple of tensors.

    Raises:
        MinimandError: a module has parameters to train, and its output no gradient.
    """
    for j, module in enumerate(modules):
        leaves, spec = tree_flatten(state)
        leaves = [t.detach().requires_grad_(t.is_floating_point() or t.is_complex()) for t in leaves]
        with torch.enable_grad():
            state = module(tree_unflatten([t.clone() for t in leaves], spec))  # it may work in place
        outputs = [t for t in tree_leaves(state) if isinstance(t, Tensor) and t.requires_grad]
        if learns(module) and not outputs:
            raise MinimandError(
                f"layer {j} ({type(module).__name__}) has parameters to train, and no gradient comes from what it "
                "gives; expected one, or what has no derivative as a layer of its own, or requires_grad_(False)."
            )
        inputs = [t for t in leaves if t.requires_grad]
        reached = False
        if outputs and inputs:
            ones = [torch.ones_like(t) for t in outputs]
            gradients = torch.autograd.grad(outputs, inputs, ones, allow_unused=True)
            reached = any(gradient is not None for gradient in gradients)
        leaves, spec = tree_flatten(state)
        state = tree_unflatten([t.detach() for t in leaves], spec)
        yield state, reached
