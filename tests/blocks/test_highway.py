"""Highway layers, by the formula of the paper."""

import torch

import minimand as mm
from helpers import BINDINGS
from minimand.blocks.highway import HighwayBranch


def test_a_step_of_gradient_descent_is_a_highway_layer() -> None:
    """y = t h + (1 - t) x under both bindings (Srivastava et al. 2015), from the weights of two linear maps."""
    x = torch.randn(5, 12)
    outputs = []
    for binding in BINDINGS:
        torch.manual_seed(0)
        model = mm.create_model("highway", binding=binding, in_channels=12, width=6, depth=3)
        branches = [m for m in model.modules() if isinstance(m, HighwayBranch)]
        y = model.stem.module(x)
        for b in branches:
            h = (y @ b.transform.weight.T + b.transform.bias).clamp_min(0)
            t = 1 / (1 + torch.exp(-(y @ b.gate.weight.T + b.gate.bias)))
            y = t * h + (1 - t) * y
        torch.testing.assert_close(model(x), model.head.module(y))
        outputs.append(model(x))
    torch.testing.assert_close(*outputs)


def test_a_closed_gate_carries_the_input_on() -> None:
    x = torch.randn(5, 6)
    assert HighwayBranch(6, bias=-40.0)(x).abs().max() < 1e-15
    opened = HighwayBranch(6, bias=40.0)
    torch.testing.assert_close(x + opened(x), opened.transform(x).relu())
