"""Where did a loss that is NaN or infinite begin?"""

import torch
from torch import Tensor, nn


class NonFiniteLossError(ArithmeticError):
    """Training met a loss that is NaN or infinite. The message names the layer where it began."""


def origin(model: nn.Module, x: Tensor) -> str:
    """Run the model on the batch again and say what was not finite first."""
    if not _finite(x):
        return "in the batch itself: an input is not finite"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"in the parameter {name}, which an earlier update made {_worst(parameter)}: lower the learning rate"
    found: list[str] = []

    def watch(name: str, module: nn.Module):
        def hook(_: nn.Module, inputs: object, output: object) -> None:
            if not found and not _finite(output):
                found.append(f"in the output of {name} ({type(module).__name__}), whose inputs are finite")

        return hook

    hooks = [m.register_forward_hook(watch(name, m)) for name, m in model.named_modules() if not list(m.children())]
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng():
            output = model(x)
    finally:
        for hook in hooks:
            hook.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])
    if found:
        return found[0]
    return (
        "in the loss: the outputs are finite" if _finite(output) else "between modules: every module's output is finite"
    )


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    return all(_finite(part) for part in value) if isinstance(value, tuple | list) else True


def _worst(value: Tensor) -> str:
    return "NaN" if bool(value.isnan().any()) else "infinite"
