"""Backward piece by piece: what is between two pieces is kept, what is within one is computed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ...._support.seeds import drawing_from, torch_state
from ....networks.as_network import as_network
from .passes import Pass, copied_buffers
from .saved_bits import Packed, unpacked


@dataclass(frozen=True)
class _Begun:
    """What a piece began with."""

    piece: nn.Module
    thresholds: int
    """Those before it."""
    random: dict[str, Tensor]
    state: Sequence[Tensor | Packed]
    form: TreeSpec

    def again(self, run: Pass) -> tuple[list[Tensor], list[Tensor]]:
        """Its inputs, cut off from what is before, and its outputs; in `run.running()`."""
        run.count = self.thresholds
        inputs = [_leaf(kept, run) for kept in self.state]
        outputs: Any = self.piece(tree_unflatten(inputs, self.form))
        return inputs, tree_flatten(outputs)[0]


def backward_by_pieces(run: Pass) -> tuple[Tensor, Tensor]:
    """Fill the `.grad` of every parameter; the pieces are stem, layers and head. Returns the loss and the outputs.

    Outputs of thresholds are kept as bits, other states as they are. Buffers such as running statistics move once, and
    what is drawn is the same twice.

    Raises:
        TypeError, ValueError: as `mm.as_network`.
    """
    network, device = as_network(run.model), run.x.device
    begun: list[_Begun] = []
    state: Any = run.x
    with run.running(), torch.no_grad():
        for piece in (network.stem, *network.layers, network.head):
            leaves, form = tree_flatten(state)
            kept = [run.thrifty.pack(leaf) for leaf in leaves]
            del leaves
            begun.append(_Begun(piece, run.count, torch_state(device), kept, form))
            if piece is not network.head:
                # The second pass moves the buffers, from where this one began.
                state = functional_call(piece, copied_buffers(piece), (state,))
    del state
    with run.running():
        inputs, (outputs,) = begun.pop().again(run)
        value = run.output_loss(outputs, run.y)
    run.check()
    _backward([value], [torch.ones_like(value)], device)
    while begun:
        gradients = [leaf.grad for leaf in inputs]
        with run.running(), drawing_from(device, begun[-1].random):
            inputs, states = begun.pop().again(run)
        _backward(states, gradients, device)
    return value.detach(), outputs.detach()


def _leaf(kept: Tensor | Packed, run: Pass) -> Tensor:
    if kept is run.x:
        return run.x
    tensor = unpacked(kept).detach()
    if isinstance(kept, Packed):
        run.thrifty.note(tensor, kept.threshold)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], device: torch.device) -> None:
    known = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad and g is not None]
    if known:
        with torch.autocast(device.type, enabled=False):
            torch.autograd.backward([y for y, _ in known], [g for _, g in known])
