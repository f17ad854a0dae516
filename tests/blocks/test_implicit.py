"""Implicit steps: a prox oracle that solves u = v + s T(u), with the gradient of the solution."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize
from torch import Tensor, nn

import minimand as mm
from helpers import BINDINGS, by_layers
from minimand.algorithms import ALGORITHMS, is_proximal
from minimand.layers import operator_norm
from minimand.theory.kernel import INPUT, Binding, kernel
from minimand.theory.symbols import Combination

PROXIMAL = [name for name, cls in ALGORITHMS.items() if any(map(is_proximal, cls.oracles))]
SOLVERS = [
    "anderson(tolerance=1e-13, max_steps=200)",
    "broyden(tolerance=1e-13, max_steps=200)",
    "fixed_point(tolerance=1e-13, max_steps=500)",
]


def _block(scale: float = 0.5) -> nn.Module:
    """A contraction, whose slopes are at most `scale`."""
    block = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)).double()
    with torch.no_grad():
        for layer in (block[0], block[2]):
            layer.weight *= scale**0.5 / torch.linalg.matrix_norm(cast(nn.Linear, layer).weight, 2)
    return block


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("binding", BINDINGS)
def test_the_gradient_is_that_of_the_solution(solver: str, binding: Binding) -> None:
    """Of the point, the step size and all weights, against differences in double precision."""
    torch.manual_seed(0)
    block = _block()
    step = mm.Implicit(block, solver, binding)
    names, values = zip(*block.named_parameters(), strict=True)

    def run(v: Tensor, s: Tensor, *weights: Tensor) -> Tensor:
        given_ = {f"equilibrium.block.block.{name}": w for name, w in zip(names, weights, strict=True)}
        return torch.func.functional_call(step, given_, (v, s))

    v = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    s = torch.tensor(0.8, dtype=torch.double, requires_grad=True)
    u = step(v, s)
    gradient = -block(u) if binding == "residual" else u - block(u)
    torch.testing.assert_close(u + s * gradient, v, atol=1e-11, rtol=0)
    assert torch.autograd.gradcheck(run, (v, s, *values), fast_mode=True)


@given(seed=st.integers(0, 2**31), s=st.floats(0.05, 20))
@settings(max_examples=15, deadline=None)
def test_the_step_of_a_quadratic_is_its_prox(seed: int, s: float) -> None:
    """T(u) = b - A u for A positive semidefinite: (I + s A)^-1 (v + s b), for any step size."""
    torch.manual_seed(seed)
    linear = nn.Linear(5, 5).double()
    root = torch.randn(5, 5, dtype=torch.double)
    with torch.no_grad():
        linear.weight.copy_(-root @ root.T / 5)
    v = torch.randn(4, 5, dtype=torch.double)
    u = mm.Implicit(linear, "broyden(tolerance=1e-12, max_steps=300)")(v, s)
    expected = torch.linalg.solve(torch.eye(5).double() - s * linear.weight, (v + s * linear.bias).T).T
    torch.testing.assert_close(u, expected, atol=1e-8, rtol=1e-7)


def test_the_step_of_a_convex_gradient_minimizes() -> None:
    """Against scipy's minimizer of g(u) + |u - v|^2 / (2 s), g = sum ReLU(W u + b)^2 / 2."""
    torch.manual_seed(0)
    block = mm.blocks.convex_gradient(5, 7).double()
    weight, bias = (p.detach().numpy() for p in block.inner.parameters())
    v, s = torch.randn(3, 5, dtype=torch.double), 2.5
    u = mm.Implicit(block, SOLVERS[0])(v, s)
    for row, point in zip(u.detach().numpy(), v.numpy(), strict=True):

        def objective(p: np.ndarray, point: np.ndarray = point) -> float:
            return float((np.maximum(weight @ p + bias, 0) ** 2).sum() / 2 + ((p - point) ** 2).sum() / (2 * s))

        best = minimize(objective, point, method="BFGS", options={"gtol": 1e-10}).x
        np.testing.assert_allclose(row, best, atol=1e-6)


@given(seed=st.integers(0, 2**31), s=st.floats(0.1, 5), scale=st.floats(0.1, 3))
@settings(max_examples=8, deadline=None)
def test_the_step_of_a_convex_gradient_does_not_expand(seed: int, s: float, scale: float) -> None:
    torch.manual_seed(seed)
    block = mm.blocks.convex_convolution(3).double()
    with torch.no_grad():
        block.inner.weight *= scale
    u, v = torch.randn(2, 4, 3, 4, 4, dtype=torch.double)
    step = mm.Implicit(block, "anderson(tolerance=1e-8, max_steps=400)")
    apart, before = (step(u, s) - step(v, s)).flatten(1), (u - v).flatten(1)
    assert (apart.square().sum(1) <= (apart * before).sum(1) * (1 + 1e-4)).all()
    assert step.equilibrium.tally.converged == step.equilibrium.tally.samples


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", PROXIMAL)
def test_an_implicit_network_solves_the_equations_of_its_kernel(name: str, binding: Binding) -> None:
    """Each answer T(u) of an implicit step, put into the kernel's query, gives u again; and so the output."""
    torch.manual_seed(0)
    algorithm, depth = ALGORITHMS[name](), 3

    def answer(oracle: str) -> nn.Module:
        return mm.Implicit(_block(), SOLVERS[0], binding) if is_proximal(oracle) else _block()

    layers: list[Any] = [{oracle: answer(oracle) for oracle in algorithm.oracles} for _ in range(depth)]
    if len(algorithm.oracles) == 1:
        layers = [layer[algorithm.oracles[0]] for layer in layers]
    stage = mm.unroll(algorithm, layers, binding).double()
    queries: list[tuple[Tensor, Tensor]] = []
    for block in stage.modules():
        if isinstance(block, mm.Implicit):
            block.register_forward_hook(lambda m, _, u: queries.append((cast(Tensor, u), cast(Any, m).block(u))))
    x = torch.randn(4, 5, dtype=torch.double)
    with torch.no_grad():
        output = stage(x)
        implicit, values = iter(queries), cast(dict[Any, Tensor], {INPUT: x})
        for query in kernel(algorithm, depth, binding).queries:
            if is_proximal(query.answer.oracle):
                u, values[query.answer] = next(implicit)
                torch.testing.assert_close(_value(query.point, values), u, atol=1e-10, rtol=0)
            else:
                block = stage.blocks[query.answer.layer]
                module = block[query.answer.oracle] if isinstance(block, nn.ModuleDict) else block
                values[query.answer] = module(_value(query.point, values))
        torch.testing.assert_close(output, _value(kernel(algorithm, depth, binding).output, values), atol=1e-10, rtol=0)
        torch.testing.assert_close(by_layers(stage, x), output, atol=1e-10, rtol=0)


def _value(point: Combination, values: dict[Any, Tensor]) -> Tensor:
    return cast(Tensor, sum(float(c) * values[atom] for atom, c in point.terms.items()))


def test_proximal_point_networks_run_backwards_in_closed_form() -> None:
    """x_k = x_(k+1) - T(x_(k+1)), as the certificate says."""
    assert mm.certify("proximal_point").reversible
    block = _block()
    x = torch.randn(2, 5, dtype=torch.double)
    after = mm.unroll("proximal_point", [mm.Implicit(block, SOLVERS[0])])(x)
    torch.testing.assert_close(after - block(after), x, atol=1e-11, rtol=0)


def test_step_sizes_may_be_those_of_samples_and_of_channels() -> None:
    """A sample's solution is that of its step size, also when samples that are done have left."""
    torch.manual_seed(0)
    step = mm.Implicit(_block(), "anderson(tolerance=1e-12, max_steps=100)")
    x, sizes = torch.randn(6, 5).double(), torch.linspace(0.05, 1.0, 6).double()[:, None].requires_grad_()
    together = step(x, sizes)
    apart = torch.cat([step(x[i : i + 1], sizes[i]) for i in range(6)])
    torch.testing.assert_close(together, apart)
    gradients = [torch.autograd.grad(u.square().sum(), [sizes, *step.parameters()]) for u in (together, apart)]
    torch.testing.assert_close(*gradients)
    of_entries = torch.linspace(0.2, 1.0, 5).double()
    torch.testing.assert_close(step(x, of_entries[None]), step(x, of_entries))
    for coefficient in (mm.Learnable(0.5, 0.1, 1, channels=5), mm.Drawn(0.2, 0.7, 0.5)):
        stage = mm.unroll(mm.algorithms.ProximalPoint(step_size=coefficient), [mm.Implicit(_block()) for _ in range(2)])
        assert stage(x).shape == x.shape


def test_a_step_is_checked_in_inference_mode_too() -> None:
    """The spectral radius is measured by gradients, which torch does not make there."""
    torch.manual_seed(0)
    step, x = mm.Implicit(_block(), "fixed_point(max_steps=2, tolerance=1e-14)").eval(), torch.randn(4, 5).double()
    sizes = torch.full((4, 1), 0.5).double()
    with torch.inference_mode():
        radius = step.equilibrium.spectral_radius(1 * x, 1 * sizes)
        answer = step(1 * x, 1 * sizes)
    assert step.equilibrium.spectral_radius(x, sizes) == pytest.approx(radius)
    assert 0 < radius < 1
    torch.testing.assert_close(answer, step(x, sizes).detach())


def test_under_autocast_the_equation_is_solved_in_float32() -> None:
    torch.manual_seed(0)
    step = mm.Implicit(mm.blocks.convex_gradient(6), "anderson(tolerance=1e-5)")
    v = torch.randn(4, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        u = step(v.bfloat16(), 1.0)
        u.sum().backward()
    assert u.dtype == torch.float32
    torch.testing.assert_close(u, v.bfloat16().float() + step.block(u), atol=1e-4, rtol=0)
    assert v.grad is not None


def _changing(kind: str) -> nn.Module:
    """A block that draws random numbers, moves averages or iterates, in training."""
    spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1))
    moving = nn.BatchNorm2d(3)
    nn.init.constant_(moving.weight, 0.3)
    middle = {"masks": nn.Dropout(0.2), "averages": moving, "norms": operator_norm(nn.Conv2d(3, 3, 3, padding=1))}
    return nn.Sequential(spectral, middle[kind], nn.Tanh())


@pytest.mark.parametrize("kind", ["masks", "averages", "norms"])
def test_a_checkpoint_runs_an_implicit_step_as_it_was(kind: str) -> None:
    """From the first call on, which looks at the block; its solves count once."""
    ends = []
    for memory in ("store", "checkpoint"):
        torch.manual_seed(0)
        blocks = [mm.Implicit(_changing(kind)) for _ in range(2)]
        network = mm.unroll("proximal_point", blocks, memory=memory)
        for _ in range(2):
            network.zero_grad()
            network(torch.randn(4, 3, 5, 5) + 1).square().sum().backward()
        ends.append([*(p.grad for p in network.parameters()), *network.buffers(), torch.rand(1)])
        assert {block.equilibrium.tally.samples for block in blocks} == {2 * 4}
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def _wide(factor: float) -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    with torch.no_grad():
        for parameter in block.parameters():
            parameter *= factor
    return block


@pytest.mark.parametrize(
    ("make", "step_size", "message"),
    [
        (lambda: mm.Implicit(nn.Linear(6, 6)), 0.0, "the step size of a prox is 0; expected more than 0"),
        (lambda: mm.Implicit(nn.Linear(6, 6)), -0.5, "the step size of a prox is -0.5; expected more than 0"),
        (lambda: mm.Implicit(nn.Linear(6, 5)), 1.0, r"\(Linear\) maps \(4, 6\) to \(4, 5\); expected one shape"),
        (
            lambda: mm.Implicit(_wide(9), "fixed_point"),
            1.0,
            r"FixedPoint does not solve the implicit step .*, s = 1 \(.*spectral radius [1-9][\d.]* there.*spectral_",
        ),
        (lambda: mm.Implicit(mm.blocks.SoftThreshold(6, 0.1)), 1.0, "SoftThreshold, which answers a prox as it is"),
        (lambda: mm.Implicit("convex_gradint(width=6)"), 1.0, "Did you mean 'convex_gradient'"),
        (lambda: mm.Implicit(nn.Linear(6, 6), "andersen"), 1.0, "andersen"),
        (lambda: mm.Implicit(nn.Linear(6, 6), binding=cast(Any, "resdual")), 1.0, "Did you mean 'residual'"),
    ],
)
def test_bad_input(make: Any, step_size: float, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()(torch.randn(4, 6), step_size)


def test_bad_input_of_networks() -> None:
    layer = {"gradient": nn.Linear(6, 6), "prox": mm.Implicit(nn.Linear(6, 6))}
    with pytest.raises(ValueError, match="for the binding 'residual', but the network's is 'operator'"):
        mm.unroll("proximal_gradient", [layer], "operator")
    with pytest.raises(ValueError, match=r"expected an mm.blocks.Prox, .* or mm.Implicit\(block\)"):
        mm.unroll("proximal_point", [nn.Linear(6, 6)])
    with pytest.raises(ValueError, match=r"answers 'gradient' with Implicit, which answers a prox; expected a block T"):
        mm.unroll("heavy_ball", [mm.Implicit(nn.Linear(6, 6))])
    layer = {"gradient": nn.Linear(6, 6), "prox": mm.blocks.SoftThreshold(6, 0.1)}
    with pytest.raises(ValueError, match="step 0 asks prox with the step size -1; expected more than 0"):
        mm.unroll("proximal_gradient(step_size=-1)", [layer])(torch.randn(4, 6))


def test_what_promises_a_solution_is_said() -> None:
    assert "well_posed=None" in repr(mm.Implicit(mm.blocks.contraction(3)).to("meta"))
    assert "for all weights" in str(mm.Implicit("convex_gradient(width=6)"))
    assert "s T is a contraction for s below 2" in (mm.Implicit(_block(0.5)).well_posed or "")
    assert mm.Implicit(_wide(9)).well_posed is None
