"""The count of floating-point operations, by torch's counter without its bookkeeping by module."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_FUSED = "_scaled_dot_product_flash_attention"
# Of the fused attention, torch's registry has the kernels of GPUs alone.
_ATTENTION_ON_CPU = {f"{_FUSED}_for_cpu": _FUSED, f"{_FUSED}_for_cpu_backward": f"{_FUSED}_backward"}


class FlopCounter(FlopCounterMode):
    """A context that counts the operations of matrix products, convolutions and attention, also in backward passes.

    The two products of attention count whole, whether it is causal or not, and on every device alike. torch's own
    counter tells modules apart by hooks on gradients, with which a backward pass that asks for gradients itself, as an
    equilibrium's does, cannot run.
    """

    def __init__(self) -> None:
        super().__init__(display=False)
        for on_cpu, on_gpu in _ATTENTION_ON_CPU.items():
            self.flop_registry[getattr(torch.ops.aten, on_cpu)] = self.flop_registry[getattr(torch.ops.aten, on_gpu)]
        self.mod_tracker: Any = _Everything()


class _Everything:
    """A stand-in for torch's tracker of modules: one module, to which everything belongs."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_Everything":
        return self

    def __exit__(self, *error: object) -> None:
        pass
