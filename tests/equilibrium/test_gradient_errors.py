"""The measured errors of gradients."""

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.equilibrium import GRADIENTS, gradient_errors


def test_errors_are_those_that_a_linear_block_has() -> None:
    """For z = a z + x the exact gradient is 1 / (1 - a), one call gives 1, and two plain steps 1 + a."""
    body = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        body.weight.copy_(0.5 * torch.eye(4))
    body.weight.requires_grad_(False)
    layer = mm.Equilibrium(body, mm.Anderson(tolerance=1e-5))
    x = torch.randn(3, 4)
    names = ("implicit", "jacobian_free", "phantom(steps=2, relaxation=1.0)")
    errors = gradient_errors(layer, x, gradients=names).errors
    assert errors["implicit"].relative < 1e-4
    assert errors["jacobian_free"].relative == pytest.approx(0.5)
    assert errors["phantom(steps=2, relaxation=1.0)"].relative == pytest.approx(0.25)
    assert errors["jacobian_free"].cosine == pytest.approx(1)
    table = str(gradient_errors(layer, x))
    assert all(name in table for name in GRADIENTS)
    assert layer.block.training
    assert body.weight.dtype == torch.float32


def test_a_block_without_a_solution_cannot_be_judged() -> None:
    class Away(nn.Module):
        def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return z + 1 + z**2 + x

    with pytest.raises(MinimandError, match="not solved to 1e-12"):
        gradient_errors(mm.Equilibrium(Away()), torch.randn(3, 4).abs())
