"""How much a model computes, and what its training keeps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .._support.torch_internals import storage_id


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Floating-point operations of a forward pass of one sample: two for each multiplication with its addition.

    Matrix products and convolutions only, as is usual. None where the model does not run on a batch of one.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *shape, device=device))
    except (RuntimeError, ValueError, TypeError):  # somebody else's model may want another batch
        return None
    finally:
        model.train(training)
    return counter.get_total_flops()


def saved_bytes(run: Callable[[], object], model: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of what `run` computes, but for a model's own tensors.

    Each storage counts once; on the meta device too.
    """
    own = {_storage(t)[0] for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(t: Tensor) -> Tensor:
        key, storage = _storage(t)
        if key not in own:
            kept[key] = storage  # held, so that its address is not given to another
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(storage.nbytes() for storage in kept.values())


def _storage(t: Tensor) -> tuple[int, torch.UntypedStorage]:
    storage = t.untyped_storage()
    return storage_id(storage), storage
