"""The modules and parameters that take part in a forward pass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@dataclass(frozen=True)
class Usage:
    """The modules that a forward pass calls, and the parameters on which its outputs depend."""

    called: set[nn.Module]
    reached: set[Tensor]


def usage(module: nn.Module, x: Tensor) -> Usage:
    """Run a module on a batch, in evaluation mode, and note what takes part."""
    called: set[nn.Module] = set()
    modes = {part: part.training for part in module.modules()}
    handle = register_module_forward_pre_hook(lambda part, _: called.add(part))
    module.eval()
    try:
        with torch.enable_grad():
            outputs = module(x)
    finally:
        handle.remove()
        for part, training in modes.items():
            part.training = training
    return Usage(called, _leaves(getattr(outputs, "grad_fn", None)))


def _leaves(function: Any) -> set[Tensor]:
    leaves: set[Tensor] = set()
    waiting, seen = [function], {None}
    while waiting:
        function = waiting.pop()
        if function not in seen:
            seen.add(function)
            if hasattr(function, "variable"):
                leaves.add(function.variable)
            waiting += [above for above, _ in function.next_functions]
    return leaves
