"""How much a model computes."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
