"""The size of a model: the operations of a forward pass, and the bytes kept for a backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .._support.modes import evaluation_mode
from .._support.torch_internals import storage_id, uncompiled


def count_flops(model: nn.Module, shape: tuple[int, ...], tokens: bool = False) -> int | None:
    """Floating-point operations of a forward pass of one sample: two for each multiplication with its addition.

    Only matrix products and convolutions count, as is usual. A sample may be one of token ids. None if the model does
    not run on a batch of one.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with evaluation_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            kind = torch.long if tokens else torch.float
            uncompiled(model)(torch.zeros(1, *shape, device=device, dtype=kind))
    except (RuntimeError, ValueError, TypeError):  # somebody else's model may want another batch
        return None
    return counter.get_total_flops()


def saved_bytes(compute: Callable[[], object], model: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of what `compute` computes, but for a model's own tensors.

    Each storage counts once; on the meta device too.
    """
    model_keys = {storage_id(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if (key := storage_id(storage)) not in model_keys:
            saved[key] = storage  # held, so that its address is not given to another
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        compute()
    return sum(storage.nbytes() for storage in saved.values())
