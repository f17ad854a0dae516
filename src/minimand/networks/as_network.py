"""Networks of stem, layers and head, also from a plain chain of modules, some of which have no derivative."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch_internals import AdaptiveAvgPoolNd, AdaptiveMaxPoolNd, tree_flatten, tree_map, tree_unflatten

_POOLS = (nn.Flatten, nn.Identity, AdaptiveAvgPoolNd, AdaptiveMaxPoolNd, nn.AvgPool2d, nn.MaxPool2d)


@runtime_checkable
class Network(Protocol):
    """A network of a stem, layers from state to state, and a head: what can be trained by any method."""

    @property
    def stem(self) -> nn.Module:
        """The module from the input to the first state."""
        ...

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The modules from state to state, in order; a layer may change the shape."""
        ...

    @property
    def head(self) -> nn.Module:
        """The module from the last state to the output."""
        ...

    def read(self, j: int, state: Any) -> Tensor:
        """The tensor that an auxiliary head or a probe of layer j looks at, from the state after that layer."""
        ...


class SequentialNetwork(nn.Module):
    """An nn.Sequential as a network of stem, layers and head, whose state is a tensor."""

    stem: nn.Module
    layers: Sequence[nn.Module]
    head: nn.Module

    def __init__(self, module: nn.Sequential, layers: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.module = module
        # No submodules, so that each parameter has the one name that it has in the chain.
        self.__dict__.update(stem=nn.Identity(), layers=tuple(layers), head=head)

    def read(self, j: int, state: Any) -> Tensor:
        return state

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def as_network(module: nn.Module, x: Tensor | None = None) -> Network:
    """A module as a network that can be trained layer by layer.

    A network is returned as it is. Of an nn.Sequential every child with parameters begins a layer, which the children
    without parameters after it join, those before the first the first; the head is the last child with parameters with
    the pooling and flattening just before it, and all after it. With `x`, a few inputs, children without a derivative
    begin a layer too. Other modules are an error, and chains of fewer than two children with parameters.
    """
    if isinstance(module, Network):
        return module
    if not isinstance(module, nn.Sequential):
        raise WrongTypeError(
            f"model is {type(module).__name__}; expected a network with stem, layers, head and read(j, state), as "
            "those of mm.create_model, or an nn.Sequential of its layers and its head."
        )
    children = list(module)
    owners = [i for i, child in enumerate(children) if any(True for _ in child.parameters())]
    if len(owners) < 2:
        raise MinimandError(
            f"the chain has {len(owners)} children with parameters; expected two or more: layers, and last the head."
        )
    end = owners[-1]
    while isinstance(children[end - 1], _POOLS):
        end -= 1
    without_derivative = [] if x is None else _without_derivative(module, children[:end], x)
    starts = sorted({0, *owners[1:-1], *without_derivative, end})
    layers = [nn.Sequential(*children[a:b]) for a, b in pairwise(starts)]
    return SequentialNetwork(module, layers, nn.Sequential(*children[end:]))


def _without_derivative(module: nn.Module, children: Sequence[nn.Module], x: Tensor) -> list[int]:
    """The positions of children without parameters that no gradient goes through."""
    training = module.training
    module.eval()
    try:
        reached = [passed for _, passed in states(children, x)]
    finally:
        module.train(training)
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
            state = module(tree_unflatten([t.clone() for t in leaves], spec))  # it may work in place
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
