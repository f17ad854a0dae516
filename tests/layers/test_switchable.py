"""Switchable normalization, from the definitions of what it mixes."""

import pytest
import torch
from torch import Tensor, nn

from minimand.layers.normalization import SwitchNorm


def _random(norm: SwitchNorm) -> SwitchNorm:
    torch.manual_seed(0)
    for p in norm.parameters():
        nn.init.normal_(p, 1.0)
    return norm.double()


@pytest.mark.parametrize("positions", [(), (7,), (3, 4), (2, 3, 2)])
def test_the_statistics_are_those_of_their_definitions(positions: tuple[int, ...]) -> None:
    norm = _random(SwitchNorm(5))
    x = (2 * torch.randn(4, 5, *positions) + 3 + torch.arange(5).reshape(5, *[1] * len(positions))).double()
    flat = x.reshape(4, 5, -1)
    instance = flat.mean(2), flat.var(2, correction=1 if positions else 0)
    second = instance[1] + instance[0].square()  # the authors' way to the variances of a sample and of the batch
    means, variances = [instance[0]], [instance[1]]
    for axis in (1, 0):
        means.append(instance[0].mean(axis, keepdim=True))
        variances.append(second.mean(axis, keepdim=True) - means[-1].square())
        if not positions:
            variances[-1] = x.var(axis, keepdim=True)

    def mixed(weights: Tensor, statistics: list[Tensor]) -> Tensor:
        first = 0 if positions else 1
        shares = weights[first:].softmax(0)
        total = sum((s * t for s, t in zip(shares, statistics[first:], strict=True)), torch.zeros(4, 5).double())
        return total.reshape(4, 5, *[1] * len(positions))

    mean, variance = mixed(norm.mean_weights, means), mixed(norm.variance_weights, variances)
    shape = (5, *[1] * len(positions))
    expected = norm.weight.reshape(shape) * (x - mean) / (variance + 1e-5).sqrt() + norm.bias.reshape(shape)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("which", ["instance", "layer", "batch"])
def test_all_weight_on_one_is_that_one(which: str) -> None:
    """Of torch, in training and at evaluation, running averages included, up to one over the number of positions."""
    norm = SwitchNorm(6)
    i = ["instance", "layer", "batch"].index(which)
    with torch.no_grad():
        for weights in (norm.mean_weights, norm.variance_weights):
            weights[i] = 100.0
    theirs = [nn.InstanceNorm2d(6), nn.GroupNorm(1, 6), nn.BatchNorm2d(6)][i]
    for _ in range(3):
        x = 2 * torch.randn(4, 6, 50, 50) + 1
        torch.testing.assert_close(norm(x), theirs(x), rtol=1e-3, atol=1e-3)
    x = torch.randn(2, 6, 50, 50)
    torch.testing.assert_close(norm.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-3)


def test_a_third_each_at_first() -> None:
    assert torch.allclose(SwitchNorm(4).mean_weights.softmax(0), torch.full((3,), 1 / 3))


@pytest.mark.parametrize(
    ("shape", "message"), [((2, 3, 4), r"expected \(N, 4, ...\)"), ((1, 4), "two values for each")]
)
def test_bad_input(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwitchNorm(4)(torch.randn(shape))
    SwitchNorm(4).eval()(torch.randn(1, 4))
