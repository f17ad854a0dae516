"""Activations that are steps."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.blocks import Threshold, few_bit_weight


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


def test_weights_of_one_bit_have_their_channels_mean_and_learn_straight_through() -> None:
    layer = nn.Conv2d(3, 5, 3)
    real = layer.weight.detach().clone()
    few_bit_weight(layer, 1)
    alpha = real.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(layer.weight, alpha * torch.where(real > 0, 1.0, -1.0))
    layer.weight.square().sum().backward()
    (behind,) = layer.parametrizations["weight"].parameters()  # pyright: ignore
    torch.testing.assert_close(behind.grad, 2 * layer.weight.detach())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_of_more_bits_are_the_nearest_of_few_values(bits: int) -> None:
    layer = nn.Linear(300, 4)
    real = layer.weight.detach().clone()
    few_bit_weight(layer, bits)
    step = real.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert all(len(row.unique()) <= 2**bits - 1 for row in layer.weight)
    assert ((layer.weight - real).abs() <= step / 2 * 1.001).all()


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
