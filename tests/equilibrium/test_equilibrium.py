"""Layers whose output solves z = block(z, x): values, gradients, what is held within a solve, and bad blocks."""

import copy
import gc
import itertools
import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.equilibrium import GRADIENTS, SOLVERS, Injected, Monotone, lipschitz_bound

WIDTH = 6


class Block(nn.Module):
    """tanh(W z + U x), a contraction of norm `scale`; with another dtype where one is given."""

    def __init__(self, scale: float = 0.7, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w, self.u = (nn.Linear(WIDTH, WIDTH, dtype=dtype) for _ in range(2))
        with torch.no_grad():
            self.w.weight.mul_(scale / torch.linalg.matrix_norm(self.w.weight, 2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.w(z) + self.u(x))


def batch(samples: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs that get a gradient, and the weights of a loss."""
    x, weights = torch.randn(2, samples, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return x.requires_grad_(), weights


def gradients(output: Tensor, weights: Tensor, *of: Tensor) -> Tensor:
    return torch.cat([g.flatten().double() for g in torch.autograd.grad((output * weights).sum(), of)])


def exact(block: Block, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The solution and its gradient in float64, through a thousand plain steps."""
    block, x = copy.deepcopy(block).double(), x.detach().double().requires_grad_()
    z = torch.zeros_like(x)
    for _ in range(300):
        z = block(z, x)
    return z, gradients(z, weights.double(), x, *block.parameters())


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_values_and_implicit_gradients_are_those_of_float64_to_the_tolerance(solver: str, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    block, (x, weights) = Block(dtype=dtype), batch(dtype=dtype)
    layer = mm.Equilibrium(block, SOLVERS[solver](tolerance=tolerance, max_steps=200))
    output = layer(x)
    value, gradient = exact(block, x, weights)
    assert distance(output, value) < tolerance / 0.3
    assert distance(gradients(output, weights, x, *block.parameters()), gradient) < 3 * tolerance / 0.3**2
    assert layer.tally.converged == layer.tally.gradients_converged == len(x)


@given(steps=st.integers(1, 9), relaxation=st.floats(0.1, 0.8), seed=st.integers(0, 9))
@settings(max_examples=8, deadline=None)
def test_reversible_gradients_are_those_through_its_own_steps(steps: int, relaxation: float, seed: int) -> None:
    torch.manual_seed(seed)
    block, (x, weights) = Block(), batch()
    start = torch.randn_like(x).requires_grad_()
    layer = mm.Equilibrium(block, mm.Coupled(max_steps=steps, relaxation=relaxation), "reversible")
    y = z = start
    for _ in range(steps):
        y = (1 - relaxation) * y + relaxation * block(z, x)
        z = (1 - relaxation) * z + relaxation * block(y, x)
    output = layer(x, start=start)
    assert distance(output, z) < 1e-12
    of = (x, start, *block.parameters())
    assert distance(gradients(output, weights, *of), gradients(z, weights, *of)) < 1e-8


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_that_are_not_exact_point_the_same_way(gradient: str) -> None:
    block, (x, weights) = Block(0.4), batch()
    output = mm.Equilibrium(block, gradient=gradient)(x)
    of = (x, *block.parameters())
    error = distance(gradients(output, weights, *of), exact(block, x, weights)[1])
    bound = {"implicit": 1e-3, "phantom": 0.1, "reversible": 0.1, "jacobian_free": 0.6}
    assert error < bound[gradient]
    assert gradient in ("implicit", "reversible") or error > 1e-3


class Meeting(nn.Module):
    """A block in which samples meet, if they are to: each sees the mean of all."""

    def __init__(self, meet: bool) -> None:
        super().__init__()
        self.meet, self.sizes = meet, []

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        self.sizes.append(len(z))
        return 0.5 * torch.cos(z + z.mean(0) if self.meet else z) * x + x


def test_samples_that_are_done_leave_unless_samples_meet() -> None:
    x = torch.linspace(0.01, 1, 16, dtype=torch.float64).unsqueeze(1)
    for meet in (False, True):
        block = Meeting(meet)
        layer = mm.Equilibrium(block, mm.FixedPoint(tolerance=1e-10, max_steps=100))
        layer.solve(x)
        block.sizes.clear()
        solution = layer.solve(x)
        assert solution.result == "converged"
        assert min(block.sizes) == (16 if meet else 1)
        torch.testing.assert_close(block(solution.value, x), solution.value, rtol=1e-9, atol=1e-12)
        if not meet:
            assert sum(block.sizes) - 16 < 16 * int(solution.steps.max())
            alone = [layer.solve(x[i : i + 1]) for i in range(16)]
            assert [int(s.steps) for s in alone] == solution.steps.tolist()
            torch.testing.assert_close(torch.cat([s.value for s in alone]), solution.value, rtol=1e-12, atol=1e-15)


def test_samples_whose_gradient_is_done_leave_its_linear_equation() -> None:
    """dz/dx = (1 + cos(z) / 2) / (1 + x sin(z) / 2); small x are done first, and are then asked no more."""
    x = torch.linspace(0.001, 0.9, 16, dtype=torch.float64).unsqueeze(1).requires_grad_()
    for meet in (False, True):
        block = Meeting(meet)
        layer = mm.Equilibrium(block, mm.FixedPoint(tolerance=1e-10, max_steps=400))
        z = layer(x)
        block.sizes.clear()
        (gradient,) = torch.autograd.grad(z.sum(), x)
        assert layer.tally.gradients_converged == 16
        if meet:
            assert block.sizes == []
        else:
            assert all(b <= a / 2 for a, b in itertools.pairwise([16, *block.sizes]))
            assert len(block.sizes) > 1
            expected = (1 + z.cos() / 2) / (1 + x * z.sin() / 2)
            torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=0)


class Pair(nn.Module):
    """A block whose state is a tuple: an image and a vector of other widths."""

    def forward(self, z: tuple[Tensor, Tensor], x: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        image, vector = z
        mean = vector.mean(1).view(-1, 1, 1, 1)
        return 0.3 * torch.tanh(image + mean) + x, scale * torch.sin(image.mean((2, 3)) + vector)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_states_may_be_tuples_and_inputs_may_be_shared(gradient: str) -> None:
    x = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last).requires_grad_()
    start = torch.zeros_like(x), torch.zeros(4, 3)
    image, vector = mm.Equilibrium(Pair(), gradient=gradient)(x, start=start, scale=0.5)
    torch.testing.assert_close(torch.cat([*Pair()((image, vector), x, 0.5)][1:]), vector, rtol=0.05, atol=0.05)
    (image.sum() + vector.sum()).backward()
    assert x.grad is not None
    assert bool(x.grad.abs().min() > 0.5)


class Dropping(nn.Module):
    """A block with dropout, batch statistics and an iterated parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: nn.Module = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.drop: nn.Module = nn.Dropout(0.3)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * self.drop(torch.tanh(self.norm(self.layer(z)))) + x


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_masks_and_statistics_are_held_within_a_solve_and_move_once(gradient: str) -> None:
    x = torch.randn(8, WIDTH, requires_grad=True)
    layer = mm.Equilibrium(Dropping(), gradient=gradient)
    block: Any = layer.block
    layer(x)  # the first call looks at the block
    steps, mean = int(block.norm.num_batches_tracked), block.norm.running_mean.clone()
    torch.manual_seed(3)
    output = layer(x)
    assert int(block.norm.num_batches_tracked) == steps + 1
    assert not torch.equal(block.norm.running_mean, mean)
    assert layer.tally.diverged == 0
    after = torch.rand(1)
    block.norm.running_mean.copy_(mean)
    torch.manual_seed(3)
    block.drop(torch.ones(8, WIDTH))
    assert torch.equal(torch.rand(1), after)  # the generator stands where one call leaves it
    output.sum().backward()  # statistics that moved since are no harm
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert block.norm.training
    assert layer.eval().solve(x).result == ("stopped" if gradient == "reversible" else "converged")


def through_steps(block: Callable[[Tensor, Tensor], Tensor], solver: mm.Coupled, x: Tensor) -> Tensor:
    """The state after a solver's coupled steps from zeros."""
    y = z = torch.zeros_like(x)
    for _ in range(solver.max_steps):
        y = torch.lerp(y, block(z, x), solver.relaxation)
        z = torch.lerp(z, block(y, x), solver.relaxation)
    return z


def test_reversible_gradients_go_no_further_than_the_inputs_of_the_block() -> None:
    """Nor twice to a weight that is in two places of it: weights before the layer, and two layers in a row."""
    block, (x, _) = Block(), batch()
    block.u.weight = block.w.weight
    solver = mm.Coupled(max_steps=8, relaxation=0.4)
    layer = mm.Equilibrium(block, solver, "reversible")
    ends = []
    for call in (layer, lambda x: through_steps(block, solver, x)):
        loss = call(block.u(x)).square().sum() + call(call(x)).square().sum()
        ends.append(torch.autograd.grad(loss, [x, *block.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-12)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    weight = scale * block.w.weight
    computed = {"w.weight": weight, "u.weight": 2 * weight}
    own = functional_call(layer, {f"block.{name}": w for name, w in computed.items()}, (x,), tie_weights=False)
    steps = through_steps(lambda z, x: functional_call(block, computed, (z, x), tie_weights=False), solver, x)
    both = (torch.autograd.grad(y.square().sum(), scale, retain_graph=True) for y in (own, steps))
    torch.testing.assert_close(*both, rtol=1e-9, atol=0)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_backward_pass_is_that_of_the_forward_one_whatever_happens_in_between(gradient: str) -> None:
    """Weights given to one call, a mode that changes, and hooks on gradients, which see the whole alone."""
    block = Dropping().double()
    block.layer = nn.Linear(WIDTH, WIDTH).double()
    if gradient == "implicit":  # samples leave, for which the block is asked again, unless masks are drawn for them all
        block.drop = nn.Identity()
    x, weights = batch(16)
    x = x * torch.linspace(0.001, 1, 16, dtype=torch.float64).unsqueeze(1)  # samples leave one after the other
    ends = []
    for is_other in (False, True):
        layer = mm.Equilibrium(copy.deepcopy(block), gradient=gradient)
        torch.manual_seed(2)
        layer(x)
        own = dict(layer.named_parameters())
        other = {name: (1.5 * p.detach()).requires_grad_() for name, p in own.items()}
        point = x.detach().requires_grad_() * 1
        if is_other:
            for p in (point, *other.values()):
                p.register_hook(lambda g: 3 * g)
        else:
            layer.load_state_dict(other, strict=False)
        torch.manual_seed(3)
        y = functional_call(layer, other, (point,)) if is_other else layer(point)
        if is_other:
            layer.eval()
        of = [point, *(other if is_other else own).values()]
        ends.append(torch.autograd.grad((y * weights.sum()).sum(), of))
        assert is_other != any(part.training for part in layer.modules())
    torch.testing.assert_close([3 * g for g in ends[0]], list(ends[1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_checkpoint_gives_the_same_gradients_and_penalty(gradient: str) -> None:
    weight = 1.0 if GRADIENTS[gradient].has_jacobian else 0.0
    layer = mm.Equilibrium(Block(), gradient=gradient, jacobian_weight=weight)
    x, weights = batch()
    of = (x, *layer.block.parameters())
    ends = []
    for call in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        torch.manual_seed(1)
        loss = (call(x) * weights).sum()
        ends.append(torch.autograd.grad(loss if layer.penalty is None else loss + layer.penalty, of))
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


def test_autocast_computes_in_half_precision_and_says_what_it_reaches() -> None:
    block, (x, weights) = Block(dtype=torch.float32), batch(dtype=torch.float32)
    for gradient in GRADIENTS:
        layer = mm.Equilibrium(block, gradient=gradient)
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(x)
        of = (x, *block.parameters())
        reference = gradients(mm.Equilibrium(block, gradient=gradient)(x), weights, *of)
        assert distance(gradients(output, weights, *of), reference) < 0.1
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(MinimandError, match="bfloat16"):
        mm.Equilibrium(block, mm.Anderson(tolerance=1e-4))(x)


def test_the_regularization_is_the_norm_of_the_jacobian_and_trains_it_down() -> None:
    block, (x, _) = Block(0.9), batch(100)
    layer = mm.Equilibrium(block, jacobian_weight=2.0)
    z = layer(x)
    jacobian = (1 - z.detach() ** 2).unsqueeze(2) * block.w.weight.detach()
    assert layer.penalty is not None
    assert float(layer.penalty.detach()) == pytest.approx(2 * float(jacobian.square().sum() / z.numel()), rel=0.3)
    before = layer.spectral_radius(x)
    optimizer = torch.optim.SGD(block.parameters(), 1.0)
    for _ in range(3):
        layer(x)
        optimizer.zero_grad()
        layer.penalty.backward()
        optimizer.step()
    assert layer.spectral_radius(x) < 0.9 * before
    layer.eval()(x)
    assert layer.penalty is None


def test_what_is_well_posed_is_promised_and_the_rest_is_measured() -> None:
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    body = nn.Sequential(convolution, nn.ReLU())
    x = torch.randn(3, 2, 5, 5)
    matrix = torch.autograd.functional.jacobian(lambda v: convolution(v.view(1, 2, 5, 5)).flatten(), torch.zeros(50))
    assert lipschitz_bound(body) >= float(torch.linalg.matrix_norm(cast(Tensor, matrix), 2))
    with torch.no_grad():
        convolution.weight.mul_(0.9 / lipschitz_bound(body))
    layer = mm.Equilibrium(body)
    assert layer.well_posed == "a contraction: its Lipschitz constant is at most 0.9"
    assert layer.spectral_radius(x) < 0.9
    hard = nn.Linear(4, 9)
    nn.init.normal_(hard.weight, std=3)
    monotone = Monotone(hard, nn.Linear(2, 4))
    layer = mm.Equilibrium(monotone, mm.FixedPoint(relaxation=monotone.relaxation(), max_steps=3000))
    assert "monotone" in str(layer.well_posed)
    assert layer.solve(torch.randn(3, 2), start=torch.zeros(3, 4)).result == "converged"
    assert mm.Equilibrium(Block()).well_posed is None


def test_the_radius_is_that_of_the_jacobian() -> None:
    block, (x, _) = Block(0.9), batch(1)
    layer = mm.Equilibrium(block, mm.Anderson(tolerance=1e-12))
    z = layer.solve(x).value[0]
    jacobian = (1 - z**2).unsqueeze(1) * block.w.weight
    expected = float(torch.linalg.eigvals(jacobian.detach()).abs().max())
    assert layer.spectral_radius(x, iterations=400) == pytest.approx(expected, rel=0.05)


class Numpy(nn.Module):
    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * z * torch.from_numpy(np.random.default_rng().integers(0, 2, z.shape)) + x


class Wider(nn.Module):
    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.cat([z, x], 1)


_BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: mm.Equilibrium(Wider())(batch()[0]), r"\(Wider\) maps a state of \(5, 6\) to \(5, 12\); z = block"),
    (lambda: mm.Equilibrium(Numpy())(batch()[0]), r"\(Numpy\) gave two answers to one state.*numpy"),
    (lambda: mm.Equilibrium(Block(), "anderson(tolerance=1e-17)")(batch()[0]), "float64.*at least 9e-16"),
    (lambda: mm.Equilibrium(Block(), "broyden", "reversible"), "solver is Broyden.*mm.Coupled"),
    (lambda: mm.Equilibrium(Block(), "andersson"), "unknown solver or algorithm 'andersson'. Did you mean 'anderson'"),
    (
        lambda: mm.Equilibrium(Block(), "heavy_bal"),
        "unknown solver or algorithm 'heavy_bal'. Did you mean 'heavy_ball'",
    ),
    (
        lambda: mm.Equilibrium(nn.Linear(6, 7).double())(batch()[0]),
        r"block Linear answers \(5, 7\), to which an input of \(5, 6\)",
    ),
    (
        lambda: mm.Equilibrium(Block(), "coupled(max_steps=40, relaxation=0.7)", "reversible")(batch()[0]),
        "predicted to be off by at least 9e.04.*expected fewer steps",
    ),
    (lambda: mm.Equilibrium(Block(), gradient="implict"), "Did you mean 'implicit'"),
    (lambda: mm.Equilibrium(torch.tanh), "block is <built-in method tanh"),  # pyright: ignore
    (lambda: mm.Equilibrium.from_function(torch.tanh), "f is <built-in method tanh"),  # pyright: ignore
    (lambda: mm.Equilibrium(Block())(), "no input and no start"),
    (lambda: mm.Equilibrium(Block())(cast(Any, "x")), "input 0 of the equilibrium is 'x'; expected a tensor"),
    (lambda: mm.Equilibrium(Block())(torch.zeros(0, WIDTH)), r"shape \(0, 6\) has no samples"),
    (
        lambda: mm.Equilibrium(Block())(batch()[0], start=torch.zeros(5, 7)),
        r"\(Block\) cannot be called with a state of \(5, 7\), torch.float32 and inputs of \(5, 6\): mat1.*start=",
    ),
    (lambda: mm.Equilibrium(Pair())(batch()[0]), r"\(Pair\) cannot be called.*unpack.*pass it as start=.*a tuple"),
    (
        lambda: mm.Equilibrium(Block(), "gradient_descent", "reversible"),
        "solver is GradientDescent.*can be undone.*mm.Coupled.*gradient='implicit'",
    ),
    (lambda: mm.Equilibrium(Block())(batch()[0], torch.zeros(3)), r"input 1 .*shape \(3,\).*5 samples.*by its name"),
    (lambda: mm.Equilibrium(Block())(torch.zeros(3, WIDTH, dtype=torch.long)), "torch.int64.*floating-point"),
    (lambda: mm.Equilibrium(nn.BatchNorm1d(6, track_running_stats=False))(batch(dtype=torch.float32)[0]), "GroupNorm"),
    (lambda: mm.Equilibrium(Block(), gradient="reversible", jacobian_weight=0.1), "jacobian_weight is 0.1"),
    (lambda: mm.Equilibrium(Block(), gradient="phantom(steps=0)"), "phantom.steps is 0"),
    (lambda: vmap(mm.Equilibrium(Block()))(batch()[0].unsqueeze(1)), "transforms of torch.func"),
    (
        lambda: torch.autograd.functional.jacobian(mm.Equilibrium(Block()), batch()[0], vectorize=True),
        "several gradients at once .* expected one after the other",
    ),
]


@pytest.mark.parametrize(("make", "message"), _BAD)
def test_what_cannot_work_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(MinimandError, match=message):
        make()


@pytest.mark.parametrize("gradient", ["implicit", "reversible"])
def test_a_second_derivative_is_an_error_that_names_what_has_one(gradient: str) -> None:
    x, weights = batch()
    output = mm.Equilibrium(Block(), gradient=gradient)(x)
    with pytest.raises(MinimandError, match="second derivative.*'phantom'"):
        torch.autograd.grad((output * weights).sum(), x, create_graph=True)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_solve_that_diverges_is_said_once_and_training_goes_on_from_the_best_iterate(gradient: str) -> None:
    class Explosion(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return 3 * z + z**3 + x

    x, _ = batch()
    solver = None if gradient == "reversible" else "fixed_point"
    layer = mm.Equilibrium(Injected(nn.Identity()), solver, gradient)
    layer.block = Explosion()
    with pytest.warns(UserWarning, match=r"diverged from the first step for all 5 samples.*radius 3.*Try mm.Anderson"):
        first = layer(x)
    assert gradient == "reversible" or bool(first.isfinite().all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)
    assert layer.tally.diverged == 10
    with pytest.warns(UserWarning, match="answers the first state with NaN or infinite numbers for all 5 samples"):
        mm.Equilibrium(Block(), solver, gradient)(x * math.nan)


def test_a_solve_leaves_nothing_behind_for_the_garbage_collector() -> None:
    layer = mm.Equilibrium(Block())
    x = torch.randn(7, WIDTH, dtype=torch.float64)
    layer.solve(x)

    def alive() -> int:
        return sum(type(thing) is Tensor and thing.numel() == x.numel() for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        layer.solve(x)
        assert alive() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_training_step_leaves_no_graph_behind(gradient: str) -> None:
    block = Block()
    layer = mm.Equilibrium.from_function(block, gradient=gradient)
    answers: list[weakref.ref[Tensor]] = []

    def note(block: nn.Module, inputs: Any, answer: Tensor) -> None:
        answers.append(weakref.ref(answer))

    block.register_forward_hook(note)
    x, weights = batch()
    gc.collect()
    gc.disable()
    try:
        (layer(x) * weights).sum().backward()
        assert not [answer for answer in answers if answer() is not None]
    finally:
        gc.enable()


@pytest.mark.soak
def test_a_compiled_block_solves_as_it_does_uncompiled() -> None:
    block, (x, weights) = Block(dtype=torch.float32), batch(dtype=torch.float32)
    of = (x, *block.parameters())
    expected = gradients(mm.Equilibrium(block)(x), weights, *of)
    compiled: Any = torch.compile(block)
    assert distance(gradients(mm.Equilibrium(compiled)(x), weights, *of), expected) < 1e-4


def test_an_equilibrium_can_be_copied_and_its_block_alone_has_weights() -> None:
    layer = mm.Equilibrium.from_function(Block(), gradient="phantom(steps=2)")
    x, _ = batch()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    assert [*layer.state_dict()] == [f"block.{name}" for name in Block().state_dict()]
    assert F.mse_loss(layer(x), layer.solve(x).value) < 1e-6
    regularized = mm.Equilibrium(Block(), jacobian_weight=1.0)
    regularized(x)
    assert copy.deepcopy(regularized).penalty is None  # a penalty has a graph, which cannot be copied


class _Twice(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_nothing_is_promised_of_what_surgery_or_a_class_of_ones_own_changed() -> None:
    torch.manual_seed(0)
    monotone = mm.Equilibrium(Monotone(nn.Linear(4, 8), nn.Linear(4, 4)))
    model = nn.Sequential(nn.Linear(4, 4), monotone, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert monotone.well_posed is not None
    record = str(mm.changes(mm.harden(model, "sign", weight_bits=1)))
    assert monotone.well_posed is None
    assert "stays real: 1.block.potential.inner: its weight is read by a ConvexGradient" in record
    mm.changes(model).undo()
    assert monotone.well_posed is not None
    for kind in (nn.Linear, _Twice):
        layer = kind(4, 4)
        nn.init.orthogonal_(layer.weight, gain=0.9)
        assert (mm.Equilibrium(layer).well_posed is None) == (kind is _Twice)
