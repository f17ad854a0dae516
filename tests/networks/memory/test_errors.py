"""What memory='reversible' cannot do is said, with what works instead."""

from typing import Any

import numpy
import pytest
import torch
from torch import nn

import minimand as mm
from minimand.blocks.dense import two_layer


def _blocks(count: int = 4) -> list[nn.Module]:
    return [two_layer(4, 6) for _ in range(count)]


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("gradient_descent", {"memory": "reversible"}, r"fixed point, if Lip\(T\) < 1. Expected .*heavy_ball"),
        ("nesterov", {"memory": "reversible"}, "does not run backwards in closed form"),
        ("dense_nesterov", {"memory": "reversible"}, "its memory grows with depth"),
        ("heavy_ball", {"memory": "reversed"}, "unknown memory 'reversed'.*reversible"),
        ("heavy_ball", {"exact": True}, "exact is True, but memory is 'store'"),
        ("heavy_ball", {"exact": False, "memory": "checkpoint"}, "exact is False, but memory is 'checkpoint'"),
        ("heavy_ball", {"exact": "yes", "memory": "reversible"}, "exact is 'yes'"),
    ],
)
def test_words_that_do_not_fit_are_named(algorithm: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.unroll(algorithm, _blocks(), **options)


def test_a_single_layer_is_refused_where_more_of_them_are() -> None:
    with pytest.raises(ValueError, match="does not run backwards"):
        mm.unroll("gradient_descent", _blocks(1), memory="reversible")
    assert mm.unroll("leapfrog", _blocks(1), memory="reversible")(torch.randn(3, 4)).requires_grad


def test_a_step_that_normalizes_its_state_is_refused_with_what_is_in_the_way() -> None:
    blocks = [{"gradient": two_layer(4, 6), "normalize": nn.LayerNorm(4)} for _ in range(3)]
    with pytest.raises(ValueError, match="its step asks normalize, which is no block.*memory='checkpoint'"):
        mm.unroll("yurii_former", blocks, memory="reversible")


def test_too_much_rounding_is_refused_with_the_number_where_exact_is_ruled_out() -> None:
    stage = mm.unroll("heavy_ball(momentum=0.1)", _blocks(12), memory="reversible", exact=False)
    with pytest.raises(ValueError, match=r"off by \d.* exact=False allows 0.0001. .*memory='checkpoint'"):
        stage(torch.randn(3, 4))


def test_a_momentum_that_was_learned_to_be_0_is_named() -> None:
    stage = mm.unroll("heavy_ball(momentum=Learnable(0, 0, 1))", _blocks(), memory="reversible")
    with pytest.raises(ValueError, match="a momentum is 0"):
        stage(torch.randn(3, 4))


def test_a_penalty_of_the_loss_of_which_no_graph_is_kept_is_named() -> None:
    blocks = [mm.Equilibrium(nn.Linear(4, 4), jacobian_weight=2.0) for _ in range(3)]
    stage = mm.unroll("heavy_ball", blocks, memory="reversible")
    with pytest.raises(ValueError, match="has jacobian_weight=2, .*memory='checkpoint'"):
        stage(torch.randn(3, 4))
    assert stage.eval()(torch.randn(3, 4)).requires_grad


def test_a_block_that_draws_its_random_numbers_elsewhere_is_named() -> None:
    class Noisy(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + float(numpy.random.rand())

    stage = mm.unroll("heavy_ball", [Noisy(4, 4) for _ in range(3)], memory="reversible")
    with pytest.raises(ValueError, match=r"block 0 \(Noisy\) answers otherwise"):
        stage(torch.randn(3, 4))


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    y = mm.unroll("heavy_ball(momentum=0.9)", _blocks(), memory="reversible")(x).sum()
    with pytest.raises(ValueError, match="second derivative.*'store' or 'checkpoint'"):
        torch.autograd.grad(y, x, create_graph=True)


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_weights_that_change_before_the_backward_pass_are_named(memory: Any) -> None:
    stage = mm.unroll("heavy_ball(momentum=0.9)", _blocks(), memory=memory)
    y = stage(torch.randn(3, 4))
    with torch.no_grad():
        next(stage.parameters()).mul_(2)
    with pytest.raises(ValueError, match=r"weight \(6, 4\) was written into between a forward pass and its backward"):
        y.sum().backward()


def test_transforms_of_functions_are_refused() -> None:
    stage = mm.unroll("heavy_ball(momentum=0.9)", _blocks(), memory="reversible")
    with pytest.raises(ValueError, match=r"transforms of torch.func .*expected torch.autograd.grad"):
        torch.func.vmap(lambda x: stage(x.unsqueeze(0)))(torch.randn(3, 4))


def test_states_beyond_what_integers_hold_are_named() -> None:
    stage = mm.unroll("heavy_ball", _blocks(), memory="reversible", exact=True)
    with pytest.raises(ValueError, match=r"beyond the 2.62e\+05 that exact=True can hold"):
        stage(1e6 * torch.ones(3, 4))


def test_a_plain_sequence_has_no_memory_to_choose() -> None:
    with pytest.raises(ValueError, match="memory is 'reversible', but convnet8"):
        mm.create_model("convnet8", memory="reversible")
