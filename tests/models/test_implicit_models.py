"""The implicit OptDNNs: their certificates, and that they train."""

from typing import Any, cast

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.equilibrium import lipschitz_bound
from minimand.layers import ConvexGradient
from sweeps import thin

IMPLICIT = list(mm.list_models("implicit_*"))


@pytest.mark.parametrize("name", IMPLICIT)
def test_an_implicit_model_solves_its_steps_and_learns(name: str) -> None:
    """Every parameter gets a gradient, a step down it lowers the loss, and each step has one solution."""
    torch.manual_seed(0)
    model = mm.create_model(name, width=4, num_classes=3)
    x, y = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
    steps = [module for module in model.modules() if isinstance(module, mm.Implicit)]
    assert len(steps) == (14 if name == "implicit_dr20" else 7)
    for step in steps:
        tally = step.equilibrium.tally
        assert tally.converged == tally.samples > 0
        assert isinstance(step.block, ConvexGradient) or cast(Any, step.block)[-1].factor < 1


@pytest.mark.parametrize("name", thin(IMPLICIT, ["implicit_dr20"]))
def test_an_implicit_model_trains_with_checkpoints(name: str) -> None:
    """From the first call on, with the gradients of the stored states."""
    gradients = []
    for memory in ("store", "checkpoint"):
        torch.manual_seed(0)
        model = mm.create_model(name, width=4, memory=memory)
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_what_their_certificates_say() -> None:
    """Consistent and stable at 0; the methods of prox alone, or half explicit, are so at any step size."""
    certificates = {name: mm.certify(mm.create_model(name).algorithm) for name in IMPLICIT}
    assert all(c.consistent and c.zero_stable for c in certificates.values())
    regions = {name: certificate.region for name, certificate in certificates.items()}
    assert all(region is not None for region in regions.values())
    limits = {name: region.largest_curvature for name, region in regions.items() if region is not None}
    angles = {name: region.angle for name, region in regions.items() if region is not None}
    assert (angles["implicit_pgd20"], angles["implicit_dr20"]) == (90, 90)
    # (1 + L) x_next = (1 - L) (x + m (x - x_previous)) has the pole -1 at L = (1 + m) / m, and m is 0.9 in the end.
    assert limits["implicit_fista20"] == pytest.approx(1.9 / 0.9, rel=1e-6)
    for name, region in regions.items():
        assert region is not None
        oracle = region.oracles[-1]
        assert region.of(oracle).largest_curvature == float("inf"), name


def test_without_a_prox_the_model_is_the_resnet() -> None:
    implicit, resnet = (mm.create_model(name, "gradient_descent") for name in ("implicit_pgd20", "preact_resnet20"))
    assert implicit.state_dict().keys() == resnet.state_dict().keys()
    implicit.load_state_dict(resnet.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(implicit.eval()(x), resnet.eval()(x))


def test_a_contraction_is_one() -> None:
    torch.manual_seed(0)
    block = mm.blocks.contraction(3, factor=0.8).eval()
    u, v = torch.randn(2, 8, 3, 12, 12)
    assert ((block(u) - block(v)).flatten(1).norm(dim=1) <= 0.81 * (u - v).flatten(1).norm(dim=1)).all()
    assert lipschitz_bound(mm.blocks.convex_convolution(3)) > 0
    with pytest.raises(ValueError, match="factor is 1"):
        mm.blocks.contraction(3, factor=1.0)
