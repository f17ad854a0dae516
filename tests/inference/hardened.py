"""Models to pack."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def ready(model: nn.Module, x: Tensor) -> nn.Module:
    """A model with statistics of its own, scales of either sign and some of 0, in evaluation mode."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine:
            nn.init.normal_(m.weight)
            m.weight.data[::5] = 0
            nn.init.normal_(m.bias, std=0.3)
    model.train()(x)
    return model.eval()
