"""Densely connected stages against their formulas, written out with concatenations and a block for each pair."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from helpers import BINDINGS
from minimand.blocks.convolutional import Skip
from minimand.blocks.densely_connected import DenseLayer
from minimand.theory.kernel import Binding

CHANNELS, GROWTH, LAYERS = 3, 2, 5


def _layers(bottleneck: bool = False, beta: float | None = None, channels: int = CHANNELS) -> list[DenseLayer]:
    torch.manual_seed(0)
    layers = [DenseLayer(channels, GROWTH, k, LAYERS, bottleneck, beta) for k in range(LAYERS)]
    for parameter in nn.ModuleList(layers).parameters():
        if parameter.ndim == 1:  # scales, biases and factors start at values that hide mistakes
            nn.init.normal_(parameter, 0.5, 0.3)
    return layers


def _state(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros(len(x), LAYERS * GROWTH, *x.shape[2:])], dim=1)


def _bn_relu_conv(branch: nn.Sequential, z: Tensor, of: slice = slice(None), first: int = 0) -> Tensor:
    """Modules first ... first + 2 of a branch, with the input channels of a slice."""
    norm, conv = cast(nn.BatchNorm2d, branch[first]), cast(nn.Conv2d, branch[first + 2])
    z = F.relu(F.batch_norm(z, None, None, norm.weight[of], norm.bias[of], training=True, eps=norm.eps))
    return F.conv2d(z, conv.weight[:, of], padding=conv.kernel_size[0] // 2)


def _h(layers: int) -> list[list[float]]:
    """Rows h_1 ... h_layers by the recursion (5) of Li et al. 2018, as printed."""
    theta = [1.0]
    while len(theta) <= layers:
        t = theta[-1] ** 2
        theta.append((-t + (t**2 + 4 * t) ** 0.5) / 2)
    rows = [[1.0]]
    for k in range(1, layers):
        m = theta[k + 1] * (1 - theta[k]) / theta[k]
        *before, last = rows[-1]
        rows.append([*(m * h for h in before), m * (last - 1), 1 + m])
    return rows


def test_the_rows_of_the_facts() -> None:
    torch.testing.assert_close(
        torch.tensor(_h(5)[4]), torch.tensor([0, 0.03889, 0.13802, 0.31799, 1.59878]), atol=6e-6, rtol=0
    )


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_gradient_descent_is_densenet(bottleneck: bool, binding: Binding) -> None:
    layers = _layers(bottleneck)
    x = torch.randn(4, CHANNELS, 5, 5, requires_grad=True)
    z = x
    for layer in layers:
        new = _bn_relu_conv(layer.branch, z)
        z = torch.cat([z, _bn_relu_conv(layer.branch, new, first=3) if bottleneck else new], dim=1)
    blocks = layers if binding == "residual" else [Skip(layer, nn.Identity(), nn.Identity()) for layer in layers]
    output = mm.unroll("gradient_descent", blocks, binding)(_state(x))
    torch.testing.assert_close(output, z, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(z)
    gradients = [torch.autograd.grad(out, x, weights)[0] for out in (output, z)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_agd_net_is_equation_21(bottleneck: bool) -> None:
    """With a block T_{k,j} for each pair, which with a bottleneck ends at the 1 x 1 convolution."""
    layers, beta = _layers(bottleneck, beta=0.1), 0.1
    z = [torch.randn(4, CHANNELS, 5, 5)]
    for k, (layer, h) in enumerate(zip(layers, _h(LAYERS), strict=True)):
        a = cast(Tensor, cast(nn.Module, layer.branch[2]).a)
        ends = [0, *range(CHANNELS, CHANNELS + (k + 1) * GROWTH, GROWTH)]
        pairs = [_bn_relu_conv(layer.branch, z[j], slice(*ends[j : j + 2])) for j in range(k + 1)]
        new = cast(Tensor, sum(a[j] * pair for j, pair in enumerate(pairs)))
        if bottleneck:
            new = _bn_relu_conv(layer.branch, new, first=3)
        skip = z[k] - cast(Tensor, sum(h[j] * z[j] for j in range(k + 1) if h[j] != 0))
        assert skip.shape == new.shape or not skip.any()  # z_0 has other channels, and cancels
        z.append(new + beta * skip if k > 0 else new)
    output = mm.unroll("gradient_descent", layers)(_state(z[0]))
    torch.testing.assert_close(output, torch.cat(z, dim=1), rtol=1e-4, atol=1e-4)


def test_agd_net_with_the_weights_of_nesterov_is_nesterov() -> None:
    """With a = h, beta = 1, one block for each source and z_0 as wide as the rest, equation 21 is equation 13."""
    method = mm.algorithms.DenseNesterov()
    sources = [nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, bias=False)) for _ in range(5)]
    layers = _layers(beta=1.0, channels=GROWTH)
    with torch.no_grad():
        for norm, _, conv in sources:
            nn.init.normal_(cast(Tensor, norm.weight), 0.5, 0.3)
            nn.init.normal_(cast(Tensor, norm.bias), 0.5, 0.3)
            cast(Tensor, conv.weight).mul_(0.5)
        for k, layer in enumerate(layers):
            norm, _, conv = layer.branch
            for name in ("weight", "bias"):
                norm.get_parameter(name).copy_(torch.cat([t[0].get_parameter(name) for t in sources[: k + 1]]))
            conv.get_parameter("weight").copy_(torch.cat([cast(Tensor, t[2].weight) for t in sources[: k + 1]], dim=1))
            conv.get_parameter("a").copy_(torch.tensor(method.weights(k)))
    x = torch.randn(4, GROWTH, 5, 5)
    state = mm.unroll("gradient_descent", layers)(_state(x))
    torch.testing.assert_close(state[:, -GROWTH:], mm.unroll(method, sources, "operator")(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_agd_net_without_its_sums_is_densenet(bottleneck: bool) -> None:
    torch.manual_seed(0)
    plain, summed = (
        mm.unroll("gradient_descent", [DenseLayer(CHANNELS, GROWTH, k, LAYERS, bottleneck, b) for k in range(LAYERS)])
        for b in (None, 0.0)
    )
    missing, unexpected = summed.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.endswith(".a") for name in missing)
    assert not unexpected
    state = _state(torch.randn(4, CHANNELS, 5, 5))
    assert torch.equal(plain(state), summed(state))
