"""What mean-field theory leaves out: how widely networks of finite width scatter at initialization."""

from torch import nn
from torch.nn.modules.conv import _ConvNd


def fluctuation_beta(model: nn.Module) -> float:
    """The sum of 1 / width over the hidden layers of a plain network, which decides how widely it scatters.

    With ReLU and weights of variance 2 / fan_in, E |h|^4 / (E |h|^2)^2 is the product of 1 + 5 / width, the typical
    |h|^2 is about exp(-5 beta / 2) of its mean, and squared entries of the Jacobian scatter exponentially in beta
    (Hanin, 2018). Above 1/5, widen the network, or make its layers equally wide. Channels count as width, which is an
    upper bound for convolutions; skips, which make the scatter smaller, are not seen.

    Raises:
        ValueError: the model has no linear layer and no convolution.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | _ConvNd)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no linear layer and no convolution; their widths are what counts."
        )
    return sum(1 / (m.out_features if isinstance(m, nn.Linear) else m.out_channels) for m in layers[:-1])
