"""Independent entries, whose variance decides how signals grow."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ...._support.checks import check_choice, check_number
from ...._support.errors import MinimandError
from ....networks.kinds import LINEAR_OR_CONVOLUTION
from ..scheme import BlockFill, Job, gain, scheme
from ..weighted_layers import WeightBlock
from ..weights import read

Distribution = Literal["normal", "uniform"]
FanMode = Literal["fan_in", "fan_out"]
BlockVariance = Callable[[WeightBlock], float]


@scheme("naive", traced=False)
def naive(job: Job, std: float = 0.01, sparsity: float = 0.0) -> None:
    """Entries of one standard deviation whatever the layer, a share of them 0; std = 0 sets all to 0.

    For comparison: no deep network trains from it, and units that start equal stay equal.
    """
    check_number("std", std, 0, math.inf)
    check_number("sparsity", sparsity, 0, 1, below=True)

    def fill(weight: Tensor, block: WeightBlock) -> None:
        matrix = weight.new_empty(len(weight), weight[0].numel())
        nn.init.sparse_(matrix, sparsity, std, generator=job.generator)
        weight.copy_(matrix.view_as(weight))

    rule = f"std {std:g}, {sparsity:.0%} zero" if sparsity else f"std {std:g}"
    for layer in job.layers:
        job.fill(layer, rule, fill if sparsity and std else job.normal(std))


@scheme("lecun", traced=False, references=("lecun1998efficient",))
def lecun(job: Job, distribution: Distribution = "normal") -> None:
    """Variance 1 / fan_in: a linear layer keeps the size of its input (LeCun et al., 1998); also for SELU."""
    _vary(job, lambda block: 1 / block.fan_in, "1 / fan_in", distribution)


@scheme("xavier", traced=False, references=("glorot2010understanding",))
def xavier(job: Job, gain: float = 1.0, distribution: Distribution = "normal") -> None:
    """Variance gain^2 2 / (fan_in + fan_out): forward and backward as well as both can be (Glorot & Bengio, 2010)."""
    check_number("gain", gain, 0, math.inf)
    rule = "2 / (fan_in + fan_out)"
    _vary(job, lambda block: gain**2 * 2 / (block.fan_in + block.fan_out), rule, distribution, gain)


@scheme("geometric", traced=False)
def geometric(job: Job, c: float = 1.0, distribution: Distribution = "normal") -> None:
    """Variance c / sqrt(fan_in fan_out): forward and backward factor of a linear layer multiply to c^2."""
    check_number("c", c, 0, math.inf)
    _vary(job, lambda block: c / math.sqrt(block.fan_in * block.fan_out), "c / sqrt(fan_in fan_out)", distribution)


@scheme("kaiming", references=("he2015delving",))
def kaiming(
    job: Job, mode: FanMode = "fan_in", slope: float | None = None, distribution: Distribution = "normal"
) -> None:
    """Variance gain^2 / fan, the gain making up for the activation that a layer reads (He et al., 2015).

    For ReLU gain^2 is 2, for a leaky one 2 / (1 + slope^2), for any other 1 / E phi(z)^2; layers that read the batch,
    a sum or a normalization have gain 1. With `slope` every layer has that of the leaky ReLU. By fan_in E h^2 stays
    from layer to layer; by fan_out the gradient's.
    """
    check_choice("mode", mode, FanMode)
    leaky_gain = None if slope is None else nn.init.calculate_gain("leaky_relu", slope)
    for layer in job.layers:
        g = gain(layer.reads) if leaky_gain is None else leaky_gain
        fill = _drawn(job, lambda block, g=g: g**2 / getattr(block, mode), distribution)
        job.fill(layer, f"gain^2 / {mode}" + (f" for {layer.reads}" if layer.reads else ""), fill, g)


@scheme("sigmoid_recentred")
def sigmoid_recentred(job: Job) -> None:
    """Weights of std 4 / sqrt(fan_in) and biases -W 1 / 2 behind a sigmoid, 1 / sqrt(fan_in) elsewhere.

    With V of variance 1 / fan_in, 4 V (sigmoid(h) - 1/2) = 2 V tanh(h / 2) has slope V at 0, so the layers act as
    those of tanh do. Zero padding, which is not one half, leaves a border where it does not hold.
    """
    after_sigmoid = [layer for layer in job.layers if layer.reads is not None and layer.reads.name == "sigmoid"]
    if not after_sigmoid:
        raise MinimandError("sigmoid_recentred sets layers that read a sigmoid, and none does.")
    for layer in job.layers:
        g = 4.0 if layer in after_sigmoid else 1.0
        biases = layer.named("bias")
        if layer in after_sigmoid and (len(biases) != 1 or not isinstance(layer.module, LINEAR_OR_CONVOLUTION)):
            raise MinimandError(f"{layer.name} reads a sigmoid and has no bias to re-centre it by; give it one.")
        job.fill(layer, f"{g:g} / sqrt(fan_in)", _drawn(job, lambda block, g=g: g**2 / block.fan_in, "normal"), g)
        if layer in after_sigmoid:
            rows = read(job.model, *layer.named("weight")).flatten(1).sum(1)
            job.set(biases[0], "- W 1 / 2", lambda value, rows=rows: value.copy_(-rows / 2))


def _vary(job: Job, variance: BlockVariance, rule: str, distribution: str, gain: float | None = None) -> None:
    for layer in job.layers:
        job.fill(layer, rule, _drawn(job, variance, distribution), gain)


def _drawn(job: Job, variance: BlockVariance, distribution: str) -> BlockFill:
    """What fills a weight with independent entries of a variance that depends on the block."""
    check_choice("distribution", distribution, Distribution)

    def fill(weight: Tensor, block: WeightBlock) -> None:
        std = math.sqrt(variance(block))
        if distribution == "normal":
            nn.init.normal_(weight, 0.0, std, generator=job.generator)
        else:
            nn.init.uniform_(weight, -(3**0.5) * std, 3**0.5 * std, generator=job.generator)

    return fill
