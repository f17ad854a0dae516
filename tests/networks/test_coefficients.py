"""How often coefficients are evaluated and drawn: once in a pass through a stage, however deep it is."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import minimand as mm
from helpers import ALGORITHMS, by_layers, make_stage

NAMES = ("gradient_descent", "hyper_connections", "yurii_former", "proximal_fista", "admm")
"""Of one coefficient, of tables, with a map; and two whose steps run as they are written."""


class Counted(TorchFunctionMode):
    """Counts the calls of torch within it."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_costs_the_same_at_any_depth(name: str) -> None:
    def calls(depth: int) -> tuple[int, int]:
        stage, x = make_stage(ALGORITHMS[f"{name} learnable"], "residual", depth), torch.randn(3, 6).double()
        with Counted() as of_layers:
            by_layers(stage, x)
        with Counted() as of_stage:
            stage(x)
        return of_layers.calls, of_stage.calls

    for few, more, most in zip(*map(calls, (2, 4, 6)), strict=True):
        assert most - more <= more - few


class TwiceAndAhead(mm.Algorithm):
    """Asks for its drawn sign twice in a step, and for that of the next step, which no program can run."""

    sign: mm.Coefficient = mm.Drawn(-0.5, 0.5)

    def start(self, x: Any) -> Any:
        return x, 0 * x, 0 * x, 0 * x

    def step(self, state: Any, gradient: Any, prox: Any, k: int) -> Any:
        x, *_ = state
        # The last two tell what this step and the next one draw.
        return prox(x - gradient(x), 1.0), self.sign(k) - self.sign(k), self.sign(k) + 0 * x, self.sign(k + 1) + 0 * x

    def read(self, state: Any) -> Any:
        return state[0]


def test_all_steps_of_a_pass_see_the_same_draw() -> None:
    depth = 4
    blocks = [{"gradient": nn.Linear(3, 3), "prox": mm.blocks.LearnedProx(nn.Linear(3, 3))} for _ in range(depth)]
    stage = mm.unroll(TwiceAndAhead(), blocks).train()
    states: list[Any] = []
    for layer in stage.layers:
        layer.register_forward_hook(lambda module, inputs, state: states.append(state))
    stage(torch.randn(64, 3))
    assert len(states) == depth
    for _, difference, _, _ in states:
        assert not torch.as_tensor(difference).any()
    for (*_, announced), (_, _, sign, _) in pairwise(states):
        assert torch.equal(announced, sign)
        assert len(sign.unique()) == 2


def test_layers_draw_what_their_stage_draws() -> None:
    stage = mm.unroll("bdia", [nn.Linear(5, 5) for _ in range(6)]).double().train()
    x = torch.randn(16, 5, dtype=torch.float64)

    def seeded(run: Any) -> Tensor:
        torch.manual_seed(1)
        return run(stage, x)

    torch.testing.assert_close(seeded(by_layers), seeded(lambda stage, x: stage(x)))
