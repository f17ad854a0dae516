"""Normalizations along another axis than torch's."""

from torch import Tensor, nn


class ByPosition(nn.Module):
    """A normalization of the last axis, for the channels of (N, C, ...): each position on its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ByChannel(nn.Module):
    """A normalization of (N, C, L), for channels first, (N, C, ...), or last, (N, ..., C)."""

    def __init__(self, norm: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.norm, self.channels_last = norm, channels_last

    def forward(self, x: Tensor) -> Tensor:
        first = x.movedim(-1, 1) if self.channels_last else x
        y = self.norm(first.reshape(first.shape[0], first.shape[1], -1)).reshape(first.shape)
        return y.movedim(1, -1) if self.channels_last else y
