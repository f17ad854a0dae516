"""The layer that multiplies by a constant."""

from torch import Tensor, nn


class Scale(nn.Module):
    """Multiplication of its input by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"{self.factor:g}"
