"""Activations that are steps, and weights of few bits."""

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.layers.thresholds import Threshold
from minimand.layers.weight_bits import FewBitLayer, few_bit_weight


def test_sign_and_heaviside_are_low_at_zero() -> None:
    z = torch.tensor([-1.0, -0.0, 0.0, 1e-45, 2.0])
    assert mm.Sign()(z).tolist() == [-1, -1, -1, 1, 1]
    assert mm.Heaviside()(z).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_a_quantized_relu_jumps_where_it_should_and_is_below_at_its_jumps(levels: int) -> None:
    steps = levels - 1
    jumps = np.arange(steps, dtype=np.float32) / max(steps - 1, 1)
    near = np.concatenate([np.nextafter(jumps, -9, dtype=np.float32), jumps, np.nextafter(jumps, 9, dtype=np.float32)])
    z = np.concatenate([near, np.linspace(-2, 2, 101, dtype=np.float32)])
    counted = (z[:, None] > jumps).sum(1) / np.float32(steps)  # each step is a threshold unit of its own
    torch.testing.assert_close(mm.QuantizedReLU(levels)(torch.from_numpy(z)), torch.from_numpy(counted.astype("f")))


def test_a_staircase_is_a_quantized_relu_of_the_input_scaled_in_and_out() -> None:
    z = torch.linspace(-4, 4, 333)
    torch.testing.assert_close(mm.Staircase(3, -1, 3)(z), 4 * mm.QuantizedReLU(4)((z + 1) / 4) - 1)


@pytest.mark.parametrize("threshold", [mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4), mm.Staircase(5, -1, 2)])
def test_values_come_back_from_their_codes_to_the_bit(threshold: Threshold) -> None:
    h = threshold(torch.linspace(-3, 3, 500))
    assert h.unique().numel() == threshold.levels
    assert torch.equal(threshold.from_codes(threshold.codes(h), h.dtype), h)


@pytest.mark.parametrize(
    ("threshold", "passes"),
    [(mm.Sign(), [0, 1, 1, 1, 1, 0]), (mm.Heaviside(), [0, 0, 1, 1, 1, 0]), (mm.QuantizedReLU(4), [0, 0, 1, 1, 1, 0])],
)
def test_backpropagation_is_saturated_straight_through(threshold: Threshold, passes: list[float]) -> None:
    z = torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    threshold(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == passes


def test_a_threshold_after_what_is_never_negative_warns_once() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), mm.Sign())
    with pytest.warns(UserWarning, match="carries no information"):
        model(torch.randn(9, 4))
    model(torch.randn(9, 4))


@pytest.mark.parametrize("make", [lambda: nn.Linear(7, 4), lambda: nn.Conv2d(6, 4, 3, groups=2, stride=2)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_of_few_bits_are_the_nearest_and_learn_straight_through(make: Callable[[], Any], bits: int) -> None:
    layer = make()
    real = layer.weight.detach().clone()
    axes = tuple(range(1, real.ndim))
    if bits == 1:
        rounded = real.abs().mean(axes, keepdim=True) * torch.where(real > 0, 1.0, -1.0)
    else:
        step = real.abs().amax(axes, keepdim=True) / (2 ** (bits - 1) - 1)
        rounded = (real / step).round() * step
        assert ((rounded - real).abs() <= step / 2 * 1.001).all()
    x = torch.randn(5, 7) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 9, 8)
    reference = copy.deepcopy(layer)
    reference.weight.data = rounded
    layer = cast(Any, few_bit_weight(layer, bits, unit=0.25))
    y = layer(x)
    torch.testing.assert_close(y, reference(x))
    g = torch.randn_like(y)
    y.backward(g)
    reference(x).backward(g)
    torch.testing.assert_close(layer.weight.grad, reference.weight.grad)  # that of the rounded weight goes to the real
    torch.testing.assert_close(layer.bias.grad, reference.bias.grad)


@pytest.mark.parametrize("threshold", [mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4), mm.Staircase(4, -1, 1)])
def test_sums_over_levels_are_exact_in_evaluation(threshold: Threshold) -> None:
    layer = nn.Conv2d(70, 8, 3, padding=1)
    layer = few_bit_weight(layer, 8, threshold.unit)
    layer.eval()
    x = threshold(torch.randn(2, 70, 6, 5))
    whole = (x.double() / threshold.unit).round()
    layer64 = cast(FewBitLayer, copy.deepcopy(layer).double())
    sums = nn.functional.conv2d(whole, layer64.integers(), padding=1)
    assert torch.equal(cast(FewBitLayer, layer).sums(x).double(), sums)
    x.requires_grad_()
    layer(x).sum().backward()
    before, x.grad = x.grad, None
    layer.train()(x).sum().backward()
    torch.testing.assert_close(before, x.grad)


def test_a_channel_of_zeros_learns() -> None:
    layer = nn.Linear(5, 2)
    nn.init.zeros_(layer.weight)
    layer = few_bit_weight(layer, 1)
    x = torch.randn(4, 5)
    assert layer(x).detach().sub(layer.bias).abs().max() < 1e-15
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(2, 5))


def test_what_is_before_an_opaque_component_learns_from_better_inputs() -> None:
    def rounds(x: Tensor) -> Tensor:
        return torch.from_numpy(np.round(x.numpy()))

    opaque = mm.Opaque(rounds, targets=lambda x, y, g: x - torch.sign(g))
    layer = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    opaque(layer(x)).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 5.0))
    with pytest.raises(ValueError, match="better inputs of shape"):
        mm.Opaque(rounds, targets=lambda x, y, g: x[0])(layer(x)).sum().backward()
