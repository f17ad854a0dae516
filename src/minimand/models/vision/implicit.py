"""The implicit OptDNNs (Wu et al. 2024): residual networks that read the state which a layer leads to."""

from collections.abc import Sequence

from torch import nn

from ...algorithms import is_proximal
from ...blocks.convolutional import initialize, pre_activation
from ...blocks.implicit import Implicit
from ...blocks.learned_prox import contraction, convex_convolution
from ...equilibrium import Anderson
from ...theory.kernel import Binding
from ..info import CIFAR, Block, ModelInfo, Parts, bound, register
from .resnet import resnet

SOLVER = Anderson(tolerance=1e-3, memory=4)
"""The solver of the implicit steps: coarse, as a gradient of small batches is off by more."""


def implicit_resnet(
    *,
    depth: int,
    width: int,
    binding: Binding,
    num_classes: int,
    in_channels: int,
    oracles: Sequence[str],
) -> Parts:
    """A pre-activation ResNet for CIFAR whose layers have a block for each oracle of the algorithm.

    A gradient is answered by the branch of a ResNet's block, T1. The last prox is the implicit step of minus the
    gradient of a learned convex function, T2 (a 3 x 3 convolution, ReLU and the same convolution transposed), which has
    one solution for all weights; another one is that of a contraction, Conv-ReLU-Conv of norms at most 1 times 0.9, in
    the place of T1. The stem, the transitions and the head are ResNet's. `solver` is that of `mm.Implicit`.
    """
    parts = resnet(
        depth=depth,
        width=width,
        preactivation=True,
        projection=False,
        binding=binding,
        num_classes=num_classes,
        in_channels=in_channels,
    )

    def block(oracle: str, channels: int) -> nn.Module:
        if not is_proximal(oracle):
            branch = pre_activation(channels, channels)
            initialize(branch)
            return bound(branch, binding)
        make_block = convex_convolution if oracle == oracles[-1] else contraction
        return Implicit(make_block(channels), SOLVER, binding)

    def layer(channels: int) -> Block:
        answers = {oracle: block(oracle, channels) for oracle in oracles}
        return answers[oracles[0]] if len(oracles) == 1 else answers

    widths = [width * 2**i for i in range(len(parts.stages))]
    stages = [
        (transition, [layer(channels) for _ in blocks])
        for (transition, blocks), channels in zip(parts.stages, widths, strict=True)
    ]
    return Parts(parts.stem, stages, parts.head)


def _register(name: str, algorithm: str, what: str) -> None:
    line = f"implicit CIFAR network of 20 layers{what}"
    settings = {"depth": 9, "width": 16}
    references = ("wu2024optdnn",)
    register(ModelInfo(name, line, implicit_resnet, settings, "residual", references, algorithm=algorithm, **CIFAR))


_register("implicit_pgd20", "proximal_gradient", ", x_next = x + T1(x) + T2(x_next)")
_register("implicit_fista20", "proximal_fista(cap=0.9)", " with momentum, x_next = y + T1(y) + T2(x_next)")
# The third network of the paper is not named where it is known from; this is ours, of the same blocks.
_register("implicit_dr20", "douglas_rachford", ", both blocks implicit, x_next = x + T1(w) + T2(x_next); our choice")
