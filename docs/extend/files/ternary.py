"""A step activation of three values."""

from torch import Tensor

from minimand.layers.thresholds import THRESHOLDS, Threshold


@THRESHOLDS.register("ternary")
class Ternary(Threshold):
    """The sign of z, and 0 where z is not beyond a half: -1, 0 or 1."""

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, (-0.5, 0.5))

    def values(self, z: Tensor) -> Tensor:
        z = z.detach()
        return (z > 0.5).to(z.dtype) - (z <= -0.5).to(z.dtype)
