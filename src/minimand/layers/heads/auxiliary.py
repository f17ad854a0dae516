"""Auxiliary classifiers of layerwise and decoupled training (Belilovsky et al. 2019; Belilovsky et al. 2020)."""

from typing import Literal, get_args

from torch import Tensor, nn

from ..._support.errors import MinimandError, unknown_name
from .similarity import PredictionSimilarity

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
    of the given kind.

    Args:
        kind: one of `AUXILIARIES`.
        shape: the shape of one sample.
        num_outputs: the length of the output.
        hidden: convolutions, or hidden layers, before the average of `cnn` and `vgg`: the papers' k - 1.
        width: the channels of these convolutions, or units of these layers; by default those of the sample, twice as
            many for `vgg`.
        norm: batch normalization after each of them, and after the average.

    Raises:
        MinimandError: an unknown kind, a sample of another number of dimensions, or a map too small for so many
            convolutions of `vgg`.
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
        first = [] if kind == "mlp" else _reduced(channels, size, norm)
        return nn.Sequential(
            *first, *average, nn.Flatten(), *_mlp(units, units, 3, norm), nn.Linear(units, num_outputs)
        )
    out = width or (2 * channels if kind == "vgg" else channels)
    count = 0 if kind == "linear" else hidden
    least = min(-(-side // 2) for side in size)
    if kind == "vgg" and count >= (least + 1) // 2:
        raise MinimandError(
            f"'vgg' has {count} convolutions without padding, and half of a map of {size[0]} x {size[1]} is too small "
            f"for them; expected at most {max((least - 1) // 2, 0)}, or 'cnn', which has padding."
        )
    coarse: list[nn.Module] = [_coarser(size, 2)] if kind == "vgg" else []
    convolutions: list[nn.Module] = []
    for i in range(count):
        convolutions += _convolution(out if i else channels, out, 3, 0 if kind == "vgg" else 1, norm)
    last = out if count else channels
    after = [nn.BatchNorm2d(last)] if norm else []
    return nn.Sequential(
        *coarse, *convolutions, *average, *after, nn.Flatten(), nn.Linear(_GRID**2 * last, num_outputs)
    )


def _similar(shape: tuple[int, ...], width: int) -> nn.Module:
    if len(shape) == 3:
        return nn.Conv2d(shape[0], width, 3, padding=1)
    return nn.Sequential(*([MeanOverTokens()] if len(shape) == 2 else []), nn.Linear(shape[-1], width))


def _mlp(inputs: int, units: int, deep: int, norm: bool) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i in range(deep):
        modules += [nn.Linear(units if i else inputs, units), *([nn.BatchNorm1d(units)] if norm else []), nn.ReLU()]
    return modules


def _reduced(channels: int, size: list[int], norm: bool) -> list[nn.Module]:
    modules: list[nn.Module] = [_coarser(size, 4)]
    for _ in range(3):
        modules += _convolution(channels, channels, 1, 0, norm)
    return modules


def _coarser(size: list[int], by: int) -> nn.Module:
    height, width = (-(-side // by) for side in size)
    return nn.AdaptiveAvgPool2d((height, width))


def _convolution(channels: int, out: int, kernel: int, padding: int, norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, padding=padding, bias=not norm)
    return [convolution, *([nn.BatchNorm2d(out)] if norm else []), nn.ReLU()]
