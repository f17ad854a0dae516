"""Normalizations along another axis than torch's, and which modules are normalizations at all."""

from torch import Tensor, nn

from .switchable import SwitchNorm


class ByPosition(nn.Module):
    """A normalization of the last axis, for the channels of (N, C, ...): each position on its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ByChannel(nn.Module):
    """A normalization of (N, C) or (N, C, L), for channels first, (N, C, ...), or last, (N, ..., C)."""

    def __init__(self, norm: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.norm, self.channels_last = norm, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """To the same shape."""
        first = x.movedim(-1, 1) if self.channels_last else x
        y = self.norm(first.flatten(2) if first.ndim > 3 else first).reshape(first.shape)
        return y.movedim(1, -1) if self.channels_last else y


NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    SwitchNorm,
    ByPosition,
    ByChannel,
)
"""What normalizes activations."""
