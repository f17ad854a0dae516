import math
from typing import cast

import pytest
import torch
from torch import nn

import minimand as mm
from helpers import ALGORITHMS, by_layers, make_stage
from minimand.blocks.dense import two_layer
from minimand.theory.kernel import Binding


def test_gradient_descent_is_a_residual_or_a_plain_network() -> None:
    blocks = [two_layer(6, 5) for _ in range(3)]
    x = torch.randn(2, 6)
    residual = plain = x
    for block in blocks:
        residual, plain = residual + block(residual), block(plain)
    torch.testing.assert_close(mm.unroll("gradient_descent", blocks, "residual")(x), residual)
    torch.testing.assert_close(mm.unroll("gradient_descent", blocks, "operator")(x), plain)


def test_forms_of_nesterov_agree_as_networks() -> None:
    """x-state, y-state and three-sequence form with growing momentum, one block a layer (facts 1.1, 3.5)."""

    class ThreeSequences(mm.Algorithm):
        def theta(self, k: int) -> float:
            theta = 1.0
            for _ in range(k):
                theta = (-(theta**2) + (theta**4 + 4 * theta**2) ** 0.5) / 2
            return theta

        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            x, v = state
            t = self.theta(k)
            v_next = v - gradient((1 - t) * x + t * v) / t
            return (1 - t) * x + t * v_next, v_next

        def read(self, state):
            return state[0]

    blocks = [two_layer(6, 5) for _ in range(9)]
    for block in blocks:  # the momentum amplifies; keep the outputs of order 1
        for p in block.parameters():
            p.data.mul_(0.5)
    fista = mm.algorithms.Fista()
    forms = [
        fista,
        mm.algorithms.Nesterov(momentum=fista.momentum),
        mm.algorithms.NesterovY(momentum=lambda k: fista.momentum(k + 1)),
        ThreeSequences(),
    ]
    x = torch.randn(4, 6)
    outputs = [mm.unroll(form, blocks)(x) for form in forms]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-6, atol=1e-6)


def test_a_learnable_coefficient_has_one_entry_a_layer_and_leaves_its_bound() -> None:
    block = nn.Linear(3, 3)
    stage = mm.unroll(mm.algorithms.HeavyBall(momentum=mm.Learnable(0.0, low=0, high=1)), [block] * 4)
    momentum = stage.coefficients["momentum"]
    assert momentum.shape == (4,)
    stage(torch.randn(2, 3)).square().sum().backward()
    assert momentum.grad is not None
    assert momentum.grad[1:].abs().min() > 0  # the first step has no velocity yet
    with torch.no_grad():
        momentum -= torch.tensor([0.0, 3.0, -3.0, -0.5])
    clamped = mm.unroll(mm.algorithms.HeavyBall(momentum=lambda k: (0.0, 0.0, 1.0, 0.5)[k]), [block] * 4)
    x = torch.randn(2, 3)
    torch.testing.assert_close(stage(x), clamped(x))
    stage.project()
    assert momentum.tolist() == [0.0, 0.0, 1.0, 0.5]


def test_a_layer_does_not_own_its_stage() -> None:
    stage = make_stage(ALGORITHMS["heavy_ball learnable"], "residual")
    assert all(n.startswith("block.") for n, _ in stage.layers[0].named_parameters())


@pytest.mark.parametrize("name", ["heavy_ball", "nesterov learnable", "momentum_residual", "two oracles"])
def test_autocast_mixes_precisions(name: str) -> None:
    torch.manual_seed(0)
    stage = make_stage(ALGORITHMS[name], "residual").float()
    x = torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = stage(x)
        mixed.sum().backward()
    torch.testing.assert_close(mixed.float(), stage(x), rtol=0.1, atol=0.1)


def test_a_block_asked_by_one_oracle_twice_is_shared() -> None:
    blocks = [nn.Linear(3, 3) for _ in range(2)]
    queries = []
    for block in blocks:
        block.register_forward_hook(lambda module, *_: queries.append(module))
    x = torch.randn(2, 3)
    output = mm.unroll("extragradient", blocks)(x)
    assert queries == [blocks[0], blocks[0], blocks[1], blocks[1]]
    for block in blocks:
        x = x + block(x + block(x))
    torch.testing.assert_close(output, x)


def test_compiles_as_one_graph() -> None:
    stage = make_stage(ALGORITHMS["heavy_ball learnable"], "residual").float()
    x = torch.randn(4, 6)
    compiled = torch.compile(stage, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), stage(x))


def test_a_coefficient_that_cannot_learn_is_refused() -> None:
    class Root(mm.algorithms.GradientDescent):
        def step(self, state, gradient, k):
            return (state[0] - math.sqrt(self.step_size(k)) * gradient(state[0]),)

    class Power(Root):
        def step(self, state, gradient, k):
            return (state[0] - self.step_size(k) ** 0.5 * gradient(state[0]),)

    learnable = mm.Learnable(0.5, 0.1, 1)
    with pytest.raises(ValueError, match="Root.step_size is learnable, but no gradient reaches it"):
        mm.unroll(Root(step_size=learnable), [nn.Linear(2, 2)])
    stage = mm.unroll(Power(step_size=learnable), [nn.Linear(2, 2)])
    stage(torch.ones(1, 2)).sum().backward()
    gradient = stage.coefficients["step_size"].grad
    assert gradient is not None
    assert gradient.abs().min() > 0


class _Prox(mm.Algorithm):
    def start(self, x):
        return x

    def step(self, state, prox, k):
        return prox(state, 1.0)

    def read(self, state):
        return state


@pytest.mark.parametrize(
    ("algorithm", "blocks", "message"),
    [
        ("heavy_ball", [], "blocks is empty"),
        ("heavy_ball", nn.Linear(2, 2), "blocks is Linear; expected a list of modules"),
        ("heavy_ball", [{"grad": nn.Linear(2, 2)}], r"blocks\[0\] is a mapping of grad; HeavyBall expects a module"),
        ("heavy_ball", [{"gradient": 3}], r"blocks\[0\] is a mapping of gradient; HeavyBall expects a module"),
        ("heavy_bal", [nn.Linear(2, 2)], "Did you mean 'heavy_ball'"),
        ("heavy_ball", [nn.Linear(2, 2), 3], r"blocks\[1\] is int; HeavyBall expects a module"),
        (ALGORITHMS["two oracles"], [nn.Linear(2, 2)], "a module for each of gradient_f, gradient_g"),
        (ALGORITHMS["two oracles"], [{"gradient_f": nn.Linear(2, 2)}], "a module for each of gradient_f, gradient_g"),
        (_Prox(), [nn.Linear(2, 2)], "expected an mm.blocks.Prox, such as"),
    ],
)
def test_bad_blocks_get_a_message(algorithm, blocks, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.unroll(algorithm, blocks)


def test_a_block_that_changes_the_shape_is_named() -> None:
    stage = mm.unroll("heavy_ball", [nn.Linear(4, 4), nn.Linear(4, 3)])
    with pytest.raises(ValueError, match=r"block 1 \(Linear\) maps \(2, 4\) to \(2, 3\)"):
        stage(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"block 1 \(Linear\)"):
        by_layers(stage, torch.randn(2, 4))


def test_an_unknown_binding_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown binding 'residul'\. Did you mean 'residual'"):
        mm.unroll("heavy_ball", [nn.Linear(2, 2)], cast(Binding, "residul"))


def test_a_block_returns_a_tensor_of_its_shape() -> None:
    with pytest.raises(ValueError, match=r"block 0 \(GRU\) returned tuple"):
        mm.unroll("heavy_ball", [nn.GRU(2, 2)])(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"block 1 \(Linear\) maps \(3, 2\) to \(3, 4\)"):
        mm.unroll("heavy_ball", [nn.Linear(2, 2), nn.Linear(2, 4)])(torch.ones(3, 2))
