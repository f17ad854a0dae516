"""Auxiliary heads: the classifiers that local learning puts on hidden layers.

They are those of layerwise and decoupled training (Belilovsky et al. 2019; Belilovsky et al. 2020), and similarity
matching, a loss of a layer's own (Nokland & Eidnes 2019; recalled, not read again).
"""

from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError, unknown_name

Auxiliary = Literal["linear", "cnn", "mlp", "mlp_sr", "vgg", "predsim"]
"""The kinds of auxiliary classifiers.

linear: the 2 x 2 average and a linear map. cnn: 3 x 3 convolutions first. mlp: the average, and three linear layers
of 4 C units. mlp_sr: a coarser map, three 1 x 1 convolutions, and the same. vgg: half the map, convolutions of twice
the width without padding. predsim: linear, and beside it a 3 x 3 convolution, or a linear map, that learns to tell
samples apart by their classes (`mm.layers.PredictionSimilarity`)."""

AUXILIARIES: tuple[Auxiliary, ...] = get_args(Auxiliary)
"""The names of the kinds of auxiliary classifiers."""

_GRID = 2


class MeanOverTokens(nn.Module):
    """The mean over tokens, (N, T, D) to (N, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def auxiliary(
    kind: Auxiliary,
    shape: tuple[int, ...],
    num_outputs: int,
    hidden: int = 0,
    width: int | None = None,
    norm: bool = True,
) -> nn.Module:
    """A classifier of what a layer gives.

    Of vectors (D,) and tokens (T, D), whose mean it takes, it is linear or has hidden layers; of maps (C, H, W) it is
    of the given kind. `shape` is that of one sample.

    Args:
        kind: one of `AUXILIARIES`.
        num_outputs: the length of the output.
        hidden: convolutions, or hidden layers, before the average of `cnn` and `vgg`: the papers' k - 1.
        width: the channels of these convolutions, or units of these layers; by default those of the sample, twice as
            many for `vgg`.
        norm: batch normalization after each of them, and after the average.
    """
    if kind not in AUXILIARIES:
        raise unknown_name("auxiliary", str(kind), AUXILIARIES)
    if kind == "predsim":
        classifier = auxiliary("linear", shape, num_outputs, norm=norm)
        return PredictionSimilarity(classifier, _similar(shape, width or shape[0 if len(shape) == 3 else -1]))
    if len(shape) in (1, 2):
        inputs = shape[-1]
        pool = [MeanOverTokens()] if len(shape) == 2 else []
        deep = 3 if kind in ("mlp", "mlp_sr") else 0 if kind == "linear" else hidden
        units = (width or inputs) if deep else inputs
        return nn.Sequential(*pool, *_mlp(inputs, units, deep, norm), nn.Linear(units, num_outputs))
    if len(shape) != 3:
        raise MinimandError(f"a layer gives samples of shape {shape}; expected (D,), (T, D) or (C, H, W).")
    return _of_maps(kind, shape, num_outputs, hidden, width, norm)


def _of_maps(
    kind: Auxiliary, shape: tuple[int, ...], num_outputs: int, hidden: int, width: int | None, norm: bool
) -> nn.Module:
    channels, *size = shape
    average: list[nn.Module] = [nn.AdaptiveAvgPool2d(_GRID)]
    if kind in ("mlp", "mlp_sr"):
        units = _GRID**2 * channels
        first: list[nn.Module] = [_coarser(size, 4)] if kind == "mlp_sr" else []
        for _ in range(3 if kind == "mlp_sr" else 0):
            first += _convolution(channels, channels, 1, 0, norm)
        deep = _mlp(units, units, 3, norm)
        return nn.Sequential(*first, *average, nn.Flatten(), *deep, nn.Linear(units, num_outputs))
    out = width or (2 * channels if kind == "vgg" else channels)
    count = 0 if kind == "linear" else hidden
    least = min(-(-side // 2) for side in size)
    if kind == "vgg" and count >= (least + 1) // 2:
        raise MinimandError(
            f"'vgg' has {count} convolutions without padding, and half of a map of {size[0]} x {size[1]} is too small "
            f"for them; expected at most {max((least - 1) // 2, 0)}, or 'cnn', which has padding."
        )
    modules: list[nn.Module] = [_coarser(size, 2)] if kind == "vgg" else []
    for i in range(count):
        modules += _convolution(out if i else channels, out, 3, 0 if kind == "vgg" else 1, norm)
    last = out if count else channels
    modules += [*average, nn.BatchNorm2d(last)] if norm else average
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(_GRID**2 * last, num_outputs))


def _similar(shape: tuple[int, ...], width: int) -> nn.Module:
    if len(shape) == 3:
        return nn.Conv2d(shape[0], width, 3, padding=1)
    return nn.Sequential(*([MeanOverTokens()] if len(shape) == 2 else []), nn.Linear(shape[-1], width))


def _mlp(inputs: int, units: int, deep: int, norm: bool) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i in range(deep):
        modules += [nn.Linear(units if i else inputs, units), *([nn.BatchNorm1d(units)] if norm else []), nn.ReLU()]
    return modules


def _coarser(size: list[int], by: int) -> nn.Module:
    return nn.AdaptiveAvgPool2d((-(-size[0] // by), -(-size[1] // by)))


def _convolution(channels: int, out: int, kernel: int, padding: int, norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, padding=padding, bias=not norm)
    return [convolution, *([nn.BatchNorm2d(out)] if norm else []), nn.ReLU()]


class PredictionSimilarity(nn.Module):
    """The head "predsim": a classifier, and a map of its own that makes samples as alike as their classes.

    Both take the output of a layer, (N, D), (N, T, D) or (N, C, H, W); `similar` gives the features that samples are
    compared by, and `share` is that of the similarity in the loss, 0.99 as published.
    """

    references: ClassVar = ("nokland2019",)

    def __init__(self, classifier: nn.Module, similar: nn.Module, share: float = 0.99) -> None:
        super().__init__()
        self.classifier, self.similar, self.share = classifier, similar, share

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def mixed(self, loss: Tensor, z: Tensor, y: Tensor, num_outputs: int) -> Tensor:
        """The loss (1 - share) loss + share d, d the mean squared difference of similarities of samples and targets.

        Samples have the features z from the map `similar`; y are classes (N,), or targets (N, d) such as mixed classes.
        Targets of one number each are an error: their similarity says nothing.
        """
        if y.ndim < 2 and y.is_floating_point():
            raise MinimandError("the targets are one number each; expected classes, which 'predsim' can compare.")
        targets = y if y.ndim > 1 else F.one_hot(y, num_outputs)
        difference = F.mse_loss(similarity(z), similarity(targets.to(z.dtype)))
        return torch.lerp(loss, difference.to(loss.dtype), self.share)


def similarity(z: Tensor) -> Tensor:
    """The correlations (N, N) of samples by the entries of (N, D), or the deviations over the map of (N, C, H, W)."""
    z = z.flatten(2).std(2) if z.ndim > 2 and z[0, 0].numel() > 1 else z.flatten(1)
    z = F.normalize(z - z.mean(1, keepdim=True), dim=1)
    return z @ z.T
