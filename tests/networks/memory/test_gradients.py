"""Gradients by other memories are those of a stage that stores everything: every algorithm, every kind of blocks."""

from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest
import torch

import minimand as mm
from helpers import make_stage
from minimand.networks import unrolled
from minimand.networks.memory.controller import ALLOWED
from minimand.networks.memory.integers import Integers
from minimand.networks.memory.scaled import Scaled
from minimand.theory.kernel import Binding
from sweeps import thin

from .stages import ALGORITHMS, BINDINGS, BLOCKS, REGISTERED, difference, gradients, remembering, stage

CASES = thin(
    product(ALGORITHMS, BLOCKS, BINDINGS),
    keep=[
        ("heavy_ball 0.9", "mlp", "residual"),
        ("heavy_ball 0.9", "cnn with batch norm", "operator"),
        ("heavy_ball 0.9", "transformer with dropout", "residual"),
        ("leapfrog", "mlp", "residual"),
        ("momentum_residual learnable", "mlp", "residual"),
        ("bdia", "transformer with dropout", "residual"),
        ("linear_multistep of order 3", "mlp", "residual"),
        ("general_momentum from a velocity", "mlp", "residual"),
        ("momentum that is 0 at times", "mlp", "residual"),
        ("in turns, learnable", "mlp", "residual"),
        ("together", "mlp", "operator"),
        ("coupled", "mlp", "residual"),
    ],
)


@pytest.fixture(scope="module", autouse=True)
def _programs_once() -> Iterator[None]:
    """What depends on algorithm, depth and binding alone is found once."""
    with pytest.MonkeyPatch.context() as patch:
        for function in ("program_of", "backward_recurrence"):
            patch.setattr(unrolled, function, cache(getattr(unrolled, function)))
        yield


@pytest.mark.parametrize(("name", "family", "binding"), CASES)
def test_a_stage_that_runs_backwards_has_the_gradients_of_one_that_stores(
    name: str, family: str, binding: Binding
) -> None:
    """To 1e-10 in double precision; in single precision to 1e-5 where the measured round-off promises that much."""
    stored = stage(ALGORITHMS[name], binding, family)
    reference = gradients(stored, family)
    back = remembering(stored, "reversible", exact=False)
    assert difference(gradients(back, family), reference) < 1e-10
    single = remembering(stored.float(), "reversible")
    error = difference(gradients(single, family), gradients(remembering(stored, "store"), family))
    backwards = single._backwards
    assert backwards is not None
    assert backwards.roundoff is not None
    assert error < 1e-5 or (error < 10 * backwards.roundoff and not backwards.is_exact)


@pytest.mark.parametrize(("name", "family", "binding"), CASES)
def test_states_kept_exactly_come_back_to_the_last_bit(name: str, family: str, binding: Binding) -> None:
    """A pass that looks its states up instead of running back has the same gradients, bit for bit."""
    single = stage(ALGORITHMS[name], binding, family).float()
    back, recorded = (remembering(single, "reversible", exact=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        results = gradients(back, family)
        assert difference(results, gradients(remembering(single, "store"), family)) < 2e-5
        _look_up(patch)
        assert all(map(torch.equal, results, gradients(recorded, family)))


def _look_up(patch: pytest.MonkeyPatch) -> None:
    """Make states in integers remember all that they were, and take that when they go back."""
    advance, retreat = Integers.advance, Integers.retreat
    history: list[tuple[torch.Tensor, list[Scaled]]] = []

    def remember(self: Integers, *arguments: object) -> torch.Tensor:
        history.append((self.whole.clone(), [copied(d) for d in self.differences]))
        return advance(self, *arguments)  # pyright: ignore

    def look_up(self: Integers, *arguments: object) -> None:
        retreat(self, *arguments)  # pyright: ignore
        whole, differences = history.pop()
        assert torch.equal(self.whole, whole)
        for d, was in zip(self.differences, differences, strict=True):
            assert torch.equal(d.whole, was.whole)
            assert torch.equal(d.values(), was.values())
        self.whole, self.differences = whole, differences

    def copied(d: Scaled) -> Scaled:
        tensors, unpacked = d.packed()
        return unpacked(tensors)

    patch.setattr(Integers, "advance", remember)
    patch.setattr(Integers, "retreat", look_up)


@pytest.mark.parametrize(
    ("name", "family"),
    thin(
        product(("heavy_ball learnable", "nesterov", "dense_nesterov"), BLOCKS),
        keep=[("heavy_ball learnable", "transformer with dropout"), ("nesterov", "cnn with batch norm")],
    ),
)
def test_checkpoints_change_no_bit(name: str, family: str) -> None:
    stored = stage(REGISTERED[name], "residual", family, depth=4)
    assert all(map(torch.equal, gradients(remembering(stored, "checkpoint"), family), gradients(stored, family)))


def test_steps_that_are_no_program_are_checkpointed_layer_by_layer() -> None:
    proximal = next(a for a in REGISTERED.values() if a.oracles == ("gradient", "prox"))
    stored = make_stage(proximal, "residual")
    x = torch.randn(3, 6, dtype=torch.double)
    other = remembering(stored, "checkpoint")
    results = [torch.autograd.grad(s(x).sum(), list(s.parameters())) for s in (stored, other)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize(("momentum", "depth"), thin(product((0.5, 0.9), (8, 32)), keep=[(0.5, 8), (0.9, 32)]))
def test_round_off_as_measured_is_about_that_of_gradients(momentum: float, depth: int) -> None:
    stored = stage(mm.algorithms.HeavyBall(momentum=momentum), "residual", "mlp", depth, scale=1.0).float()
    back = remembering(stored, "reversible", exact=None)
    error = difference(gradients(back, "mlp"), gradients(remembering(stored, "store"), "mlp"))
    assert back._backwards is not None
    measured = back._backwards.roundoff
    assert measured is not None
    if measured > ALLOWED:  # then no digit of it reaches the gradients
        assert back._backwards.is_exact
        assert error < 1e-5
    else:
        assert measured / 30 < error < min(30 * measured, 1e-3)
