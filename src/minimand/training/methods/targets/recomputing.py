"""Backward piece by piece: states between pieces are saved, and what is within a piece is computed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...._support.seeds import drawing_from, torch_state
from ...._support.torch_internals import TreeSpec, tree_flatten, tree_unflatten
from ....networks.as_network import as_network
from .passes import TargetPass, copied_buffers
from .saved_bits import PackedActivation, unpacked


@dataclass(frozen=True)
class _Piece:
    """A piece of a network, and what is needed to run it again."""

    module: nn.Module
    thresholds_before: int
    random: dict[str, Tensor]
    inputs: Sequence[Tensor | PackedActivation]
    form: TreeSpec

    def run(self, target_pass: TargetPass) -> tuple[list[Tensor], list[Tensor]]:
        """The inputs of the piece, cut off from what is before, and its outputs; within `TargetPass.running`."""
        target_pass.count = self.thresholds_before
        inputs = [_leaf(saved, target_pass) for saved in self.inputs]
        outputs: Any = self.module(tree_unflatten(inputs, self.form))
        return inputs, tree_flatten(outputs)[0]


def backward_by_pieces(target_pass: TargetPass) -> tuple[Tensor, Tensor]:
    """Fill the `.grad` of every parameter; the pieces are stem, layers and head. Returns the loss and the outputs.

    Outputs of thresholds are saved as bits, other states as they are. Buffers such as running statistics move once, and
    what is drawn is the same twice.
    """
    network, device = as_network(target_pass.model), target_pass.x.device
    pieces: list[_Piece] = []
    state: Any = target_pass.x
    with target_pass.running(), torch.no_grad():
        for module in (network.stem, *network.layers, network.head):
            leaves, form = tree_flatten(state)
            inputs = [target_pass.saved.pack(leaf) for leaf in leaves]
            del leaves
            pieces.append(_Piece(module, target_pass.count, torch_state(device), inputs, form))
            if module is not network.head:
                # The second pass moves the buffers, from where this one began.
                state = functional_call(module, copied_buffers(module), (state,))
    del state
    with target_pass.running():
        inputs, (outputs,) = pieces.pop().run(target_pass)
        value = target_pass.output_loss(outputs, target_pass.y)
    target_pass.check()
    _backward([value], [torch.ones_like(value)], device)
    while pieces:
        gradients = [leaf.grad for leaf in inputs]
        with target_pass.running(), drawing_from(device, pieces[-1].random):
            inputs, states = pieces.pop().run(target_pass)
        _backward(states, gradients, device)
    return value.detach(), outputs.detach()


def _leaf(saved: Tensor | PackedActivation, target_pass: TargetPass) -> Tensor:
    if saved is target_pass.x:
        return target_pass.x
    tensor = unpacked(saved).detach()
    if isinstance(saved, PackedActivation):
        target_pass.saved.register(tensor, saved.threshold)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], device: torch.device) -> None:
    pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad and g is not None]
    if pairs:
        with torch.autocast(device.type, enabled=False):
            torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])
