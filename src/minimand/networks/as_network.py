"""Networks of stem, layers and head: those that say so, chains of modules, and any model with repeated blocks."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch.internals import tree_flatten, tree_map, tree_unflatten, uncompiled
from .cutting.cut import check_unwired, cut, unfolded
from .cutting.repeated import blocks
from .kinds import POOLS, check_model, starts_layer
from .protocol import Network, SplitNetwork, is_network
from .undisturbed import undisturbed


def as_network(model: nn.Module, example: Any = None) -> Network:
    """A model as a network of stem, layers and head, that can be trained layer by layer, probed and cut.

    A network is returned as it is. Of an nn.Sequential, linear and convolutional layers, and other children with
    parameters, begin a layer; a normalization and what has no parameters joins the layer before it, or the first. The
    head is the last of them with the pooling and flattening just before it, and all after it. A nn.Sequential inside
    with repeated blocks counts by its blocks. With an example, children without a derivative begin a layer too.

    Any other model is cut between its repeated blocks, those that `mm.rewire` looks for; this takes an `example`, a few
    inputs: a tensor, a tuple of positional or a mapping of named arguments. The code between the blocks is recorded as
    it runs on two and three of them, and the parts are run against the model, with gradients, before they are returned.
    What the blocks are given beside the first tensor, such as a mask, is part of the state.

    Raises MinimandError, with the reason, for a model that cannot be cut.
    """
    check_model(model)
    model = uncompiled(model)
    if is_network(model):
        return model
    is_chain = type(model).forward is nn.Sequential.forward
    children = unfolded(model) if is_chain else []
    check_unwired(model, children)
    if sum(starts_layer(child) for child in children) > 1:
        return _chain(model, children, example)
    if is_chain and not list(blocks(model)):
        count = sum(starts_layer(child) for child in children)
        raise MinimandError(
            f"the chain has {count} children with parameters; expected two or more: layers, and last the head."
        )
    if example is None:
        raise WrongTypeError(
            f"model is {type(model).__name__}, which is neither a network with stem, layers, head and read(j, state), "
            "as those of mm.create_model, nor an nn.Sequential of its layers and its head; expected an example, a few "
            "of its inputs, by which to cut it: mm.as_network(model, example)."
        )
    return cut(model, example)


def _chain(model: nn.Module, children: list[nn.Module], example: Any) -> SplitNetwork:
    starters = [i for i, child in enumerate(children) if starts_layer(child)]
    end = starters[-1]
    while end and isinstance(children[end - 1], POOLS):
        end -= 1
    without_derivative = [] if example is None else _without_derivative(model, children[:end], example)
    starts = sorted({0, *starters[1:-1], *without_derivative, end})
    layers = [nn.Sequential(*children[a:b]) for a, b in pairwise(starts)]
    return SplitNetwork(model, nn.Identity(), layers, nn.Sequential(*children[end:]))


def _without_derivative(module: nn.Module, children: Sequence[nn.Module], x: Tensor) -> list[int]:
    """The positions of children without parameters that no gradient goes through."""
    with undisturbed(module):
        module.eval()
        try:
            reached = [passed for _, passed in states(children, x)]
        except RuntimeError as error:
            shape = tuple(getattr(x, "shape", ()))
            raise MinimandError(f"the chain fails on an example of the shape {shape} ({error}).") from error
    return [i for i, child in enumerate(children) if not (reached[i] or learns(child))]


def learns(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def states(modules: Iterable[nn.Module], state: Any) -> Iterator[tuple[Any, bool]]:
    """The output of each module of a chain, detached, and whether a gradient goes from it to the module's input.

    The modules are in evaluation mode; `state` is the input of the first, a tensor or a tuple of tensors. A module that
    has parameters to train, and whose output has no gradient, is an error.
    """
    for j, module in enumerate(modules):
        leaves, spec = tree_flatten(state)
        leaves = [t.detach().requires_grad_(t.is_floating_point() or t.is_complex()) for t in leaves]
        with torch.enable_grad():
            # A clone, as modules may work in place, which a leaf forbids.
            state = module(tree_unflatten([t.clone() for t in leaves], spec))
        outputs = [t for t in tree_flatten(state)[0] if isinstance(t, Tensor) and t.requires_grad]
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
        state = tree_map(Tensor.detach, state)
        yield state, reached
