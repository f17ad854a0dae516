"""Scales of residual branches, by what they do to a deep network at its start."""

from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.blocks.dense import two_layer
from minimand.layers.residual_scale import ResidualScale, ScalarBias


@pytest.mark.parametrize("mode", ["skipinit", "rezero"])
def test_a_zero_scale_is_the_identity_whose_scale_alone_learns(mode: Any) -> None:
    blocks = [ResidualScale(two_layer(6, 8), mode) for _ in range(20)]
    stage = mm.unroll("gradient_descent", blocks, "residual")
    x = torch.randn(4, 6)
    assert torch.equal(stage(x), x)
    stage(x).square().sum().backward()
    for block in blocks:
        assert all(p.grad is not None and not p.grad.any() for p in block.branch.parameters())
        assert block.scale.grad
    assert sum(p.numel() for p in blocks[0].parameters()) == 1 + sum(p.numel() for p in blocks[0].branch.parameters())


@torch.no_grad()
def test_variance_grows_by_e_at_any_depth() -> None:
    """Branches of unit gain: (1 + 1/L)^L scaled by 1 / sqrt(L), 2^L unscaled, as Fixup's multiplier is at first."""
    torch.manual_seed(0)
    for blocks in (4, 16):
        for mode, expected in (("depth", (1 + 1 / blocks) ** blocks), ("fixup", 2.0**blocks)):
            ratios = []
            for _ in range(3):
                linear = [nn.Linear(256, 256, bias=False) for _ in range(blocks)]
                for layer in linear:
                    nn.init.normal_(layer.weight, std=1 / 16)
                scaled = [ResidualScale(layer, mode, blocks) for layer in linear]  # type: ignore[arg-type]
                x = torch.randn(64, 256)
                ratios.append(mm.unroll("gradient_descent", scaled, "residual")(x).square().mean() / x.square().mean())
            assert float(sum(ratios) / 3) == pytest.approx(expected, rel=0.15)


def test_what_learns_and_what_does_not() -> None:
    assert not [name for name, _ in ResidualScale(nn.Identity(), "depth", 4).named_parameters()]
    assert float(ResidualScale(nn.Identity(), "depth", 4)(torch.ones(1))) == 0.5
    bias = ScalarBias()
    x = torch.randn(3, 4)
    assert torch.equal(bias(x), x)
    bias(x).sum().backward()
    assert bias.bias.grad == 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualScale(nn.Identity(), "skip_init"), "Did you mean 'skipinit'"),  # type: ignore[arg-type]
        (lambda: ResidualScale(nn.Identity(), "depth"), "blocks is None; mode='depth' needs the number of blocks"),
        (lambda: ResidualScale(nn.Identity(), "depth", 0), "blocks is 0"),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
