"""The size of a model: the operations of a forward pass, and the bytes kept for a backward pass."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .._support.torch.flops import FlopCounter
from .._support.torch.internals import TorchDispatchMode, storage_id, tree_leaves, uncompiled
from .._support.torch.modes import evaluation_mode
from ..equilibrium import Equilibrium


def count_flops(model: nn.Module, shape: tuple[int, ...], tokens: bool = False) -> int | None:
    """Floating-point operations of a forward pass of one sample: two for each multiplication with its addition.

    Only matrix products, convolutions and attention count, as is usual; attention whole, causal or not. A sample may be
    one of token ids. Of an equilibrium those of a solve from zero count. None if the model does not run on a batch of
    one.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(()))
    x = torch.zeros(1, *shape, device=like.device, dtype=torch.long if tokens else like.dtype)
    try:
        with evaluation_mode(model), torch.no_grad():
            if any(isinstance(part, Equilibrium) for part in model.modules()):
                uncompiled(model)(x)  # the first call of one asks its block a few times more
            with FlopCounter() as counter:
                uncompiled(model)(x)
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


def peak_bytes(compute: Callable[[], object], model: nn.Module) -> int:
    """Bytes of all tensors that are there at once, at the most, beyond a model's own while `compute` runs.

    What operations hold inside of themselves is not seen. Gradients of parameters count until they are dropped.
    """
    live = _Live({storage_id(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]})
    with live:
        compute()
    return live.peak


class _Live(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, for as long as they are there."""

    def __init__(self, own: set[int]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = dict.fromkeys(own, 0)
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if (
                isinstance(result, Tensor)
                and (key := storage_id(storage := result.untyped_storage())) not in self.sizes
            ):
                self.sizes[key] = storage.nbytes()
                self.now += self.sizes[key]
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._drop, key)
        return results

    def _drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
