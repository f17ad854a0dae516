"""What is known of each layer after one forward and one backward pass."""

import math
from dataclasses import dataclass

from torch import nn

from .tracing import Trace


@dataclass(frozen=True)
class LayerStat:
    """The measurements of one run of a layer; what could not be measured is nan.

    Gradients are of <v, x>, where x is what the last layer reads and v is drawn from N(0, I): no loss has a part in
    them. Second moments are means over all entries.
    """

    name: str
    call_index: int
    """The number of times that this layer ran before."""
    kind: str
    activation: str | None
    """The first activation that the output reaches."""
    shape: tuple[int, ...]
    """The shape of what the layer returned."""
    mean: float
    second_moment: float
    batch_std: float
    """The deviation over the samples, as a root mean square over units: 0 where all samples look alike."""
    cosine: float
    """The mean cosine over pairs of samples of the output."""
    nonfinite: float
    """The fraction of the output that is not finite."""
    zero: float
    """The fraction of zeros in what the next layer reads, after the activation."""
    dead: float
    """The fraction of units that are 0 there for every sample."""
    saturated: float
    """The fraction within a hundredth of the ends of a bounded activation."""
    gradient: float
    """The second moment of the gradient of the output."""
    chi: float
    """The factor of the squared gradient from what the next layer reads to what this one reads."""
    loss_gradient: float
    """The second moment of the gradient of the output, that of the loss."""
    weight_gradient: float
    """The norm of the gradient over the parameters: of the loss where one was given."""
    update_ratio: float
    """The norm of that gradient over the norm of the parameters."""
    read_second_moment: float
    """The second moment of what the layer reads: the signal that arrives."""
    read_cosine: float
    read_gradient: float
    """The squared norm per sample of the gradient of what the layer reads."""
    expected_second_moment: float = math.nan
    """The second moment by mean-field theory, from the first layer on; nan where it does not apply."""
    expected_cosine: float = math.nan
    expected_chi: float = math.nan

    @property
    def blocked(self) -> bool:
        """Whether a gradient of the layer is exactly 0."""
        return 0.0 in (self.weight_gradient, self.gradient, self.read_gradient)

    @property
    def cut(self) -> bool:
        """Whether the signal of the layer passes on but no gradient comes back."""
        return self.gradient == 0 and self.dead < 0.5


@dataclass(frozen=True)
class Measured:
    """The measurements of a model, of which the layers are in the order they ran."""

    layers: tuple[LayerStat, ...]
    trace: Trace
    gradients: dict[nn.Parameter, float]
    """The squared norm of the gradient of each parameter that has one."""
    samples: int
    """The number of samples in the batch; 0 where no layer read a floating-point tensor."""
