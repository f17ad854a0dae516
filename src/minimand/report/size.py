"""The size of a model: the operations of a forward pass, and the bytes kept for a backward pass."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .._support.flops import FlopCounter
from .._support.modes import evaluation_mode
from .._support.torch_internals import storage_id, uncompiled


def count_flops(model: nn.Module, shape: tuple[int, ...], tokens: bool = False) -> int | None:
    """Floating-point operations of a forward pass of one sample: two for each multiplication with its addition.

    Only matrix products and convolutions count, as is usual. A sample may be one of token ids. None if the model does
    not run on a batch of one.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with evaluation_mode(model), torch.no_grad(), FlopCounter() as counter:
            kind = torch.long if tokens else torch.float
            uncompiled(model)(torch.zeros(1, *shape, device=device, dtype=kind))
    except (RuntimeError, ValueError, TypeError):  # somebody else's model may want another batch
        return None
    return counter.get_total_flops()


def peak_saved_bytes(compute: Callable[[], object], model: nn.Module) -> int:
    """Bytes that autograd keeps at once, at the most, while `compute` runs forward and backward passes.

    Each storage counts once while any graph holds it; a model's own tensors do not count.
    """
    own = {storage_id(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]}
    holders: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    peak = 0

    class Kept:
        """A saved tensor, which counts until the graph lets go of it."""

        def __init__(self, t: Tensor) -> None:
            nonlocal peak
            storage = t.untyped_storage()
            self.tensor, self.key = t, storage_id(storage)
            if self.key not in own:
                holders[self.key] += 1
                sizes[self.key] = storage.nbytes()
                peak = max(peak, sum(sizes.values()))

        def __del__(self) -> None:
            if self.key not in own:
                holders[self.key] -= 1
                if not holders[self.key]:
                    del sizes[self.key]

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda saved: saved.tensor):
        compute()
    return peak


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
