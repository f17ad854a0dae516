"""Hidden targets that make every unit separable."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.data.sets.nested_rings import nested_rings
from minimand.layers.thresholds import Threshold
from minimand.training.methods.feasible import feasible_target_propagation
from minimand.training.methods.feasible.target_search import BudgetSpent, TargetSearch


def _net(*widths: int, threshold: Callable[[], Threshold] = mm.Sign) -> nn.Sequential:
    parts = [(nn.Linear(a, b), threshold()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*list(itertools.chain.from_iterable(parts))[:-1])


def _parity(bits: int) -> tuple[Tensor, Tensor]:
    x = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=bits)))
    return x, (x.prod(1) < 0).long()


def _rings() -> tuple[Tensor, Tensor]:
    samples = nested_rings(50, 0).train
    assert isinstance(samples, mm.data.Arrays)
    return samples.inputs, samples.targets


@pytest.mark.parametrize(
    ("net", "task"),
    [
        (_net(2, 2, 1), _parity(2)),
        (_net(2, 3, 2, threshold=mm.Heaviside), _parity(2)),
        (_net(3, 3, 1), _parity(3)),
        (_net(3, 3, 3, 1), _parity(3)),
        (_net(2, 10, 2), _rings()),
        (nn.Sequential(nn.Flatten(), *_net(8, 8, 3)), (torch.randn(12, 2, 4), torch.arange(12) % 3)),
    ],
)
def test_solved_is_zero_training_error_and_every_hidden_target_met(net: nn.Sequential, task: Any) -> None:
    x, y = task
    solution = mm.FeasibleTargetPropagation().solve(net, x, y)
    assert solution.status == "solved"
    out = net(x)
    right = out.argmax(1) == y if out.shape[1] > 1 else (out[:, 0] > 0) == y.bool()
    assert right.all()
    activations = []
    for part in net:
        x = part(x)
        if isinstance(part, Threshold):
            activations.append(torch.where(x > 0, 1, -1).numpy())
    assert len(activations) == len(solution.targets)
    for layer_activations, targets in zip(activations, solution.targets, strict=True):
        np.testing.assert_array_equal(layer_activations, targets)
    assert all(margin > 0 for margin in solution.margins)


def test_one_hidden_unit_cannot_do_xor_and_that_is_proved() -> None:
    net, (x, y) = _net(2, 1, 1), _parity(2)
    before = [p.clone() for p in net.parameters()]
    solution = mm.FeasibleTargetPropagation().solve(net, x, y)
    assert solution.status == "infeasible"
    assert solution.unit == (2, 0)
    assert solution.settings == 7  # half the 14 functions of two bits that a threshold has
    assert solution.proof is not None
    assert solution.proof.certificate is not None
    torch.testing.assert_close(list(net.parameters()), before, rtol=0, atol=0)
    assert "infeasible: unit 0 of layer 2 cannot meet its targets in any of the 7 settings" in str(solution)


def test_what_no_network_can_do_is_proved_by_the_samples() -> None:
    x = torch.tensor([[0.0, 1], [1, 0], [0, 1]])
    solution = mm.FeasibleTargetPropagation().solve(_net(2, 9, 9, 2), x, torch.tensor([0, 1, 1]))
    assert (solution.status, solution.unit) == ("infeasible", (3, 0))
    no_hidden = mm.FeasibleTargetPropagation().solve(_net(2, 1), *_parity(2))
    assert (no_hidden.status, no_hidden.unit) == ("infeasible", (1, 0))
    assert no_hidden.proof is not None
    x, y = _parity(2)
    c, t = no_hidden.proof.certificate, 2 * y.numpy() - 1
    assert c is not None
    np.testing.assert_allclose((c * t) @ x.numpy(), 0, atol=1e-7)


def test_a_budget_that_is_spent_leaves_the_network_as_it_is() -> None:
    net, (x, y) = _net(4, 4, 1), _parity(4)
    before = [p.clone() for p in net.parameters()]
    solution = mm.FeasibleTargetPropagation(budget=60).solve(net, x, y)
    assert (solution.status, solution.steps) == ("budget_spent", 60)
    torch.testing.assert_close(list(net.parameters()), before, rtol=0, atol=0)


def test_solutions_that_rounding_spoils_are_not_called_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasible_target_propagation, "_takes", lambda *_: False)
    solution = mm.FeasibleTargetPropagation(budget=300).solve(_net(2, 2, 1), *_parity(2))
    assert solution.status == "budget_spent"


def test_a_search_ends_where_there_is_nothing_to_move() -> None:
    solution = mm.FeasibleTargetPropagation(budget=50, separability="perceptron").solve(_net(2, 1), *_parity(2))
    assert (solution.status, solution.steps) == ("budget_spent", 50)


def test_whole_numbers_and_arrays_are_samples_too() -> None:
    x, y = _parity(2)
    for samples in (x.long(), x.double(), x.numpy()):
        net = _net(2, 2, 1)
        assert mm.FeasibleTargetPropagation().solve(net, samples, y).status == "solved"  # pyright: ignore
        assert ((net(x)[:, 0] > 0) == y.bool()).all()


def test_the_seed_decides_everything() -> None:
    outcomes = []
    for seed in (0, 0, 1):
        net = _net(3, 4, 1)
        solution = mm.FeasibleTargetPropagation(seed=seed).solve(net, *_parity(3))
        outcomes.append((solution.steps, solution.targets[0].tolist(), net.state_dict()["0.weight"].tolist()))
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_the_largest_margins_are_no_smaller_and_the_perceptron_solves_too() -> None:
    usual, wide, learned = (
        mm.FeasibleTargetPropagation(separability=how).solve(_net(2, 3, 1), *_parity(2))
        for how in ("linear_programming", "max_margin", "perceptron")
    )
    assert usual.status == wide.status == learned.status == "solved"
    assert all(a >= b * (1 - 1e-6) for a, b in zip(wide.margins, usual.margins, strict=True))


def test_all_settings_of_hidden_targets_are_those_that_units_can_give() -> None:
    """For four points in the plane, by trying units on a fine grid of directions and offsets."""
    x = np.random.default_rng(3).normal(size=(4, 2))
    search = TargetSearch(x, np.ones((4, 1)), (1,), ((-1, 1),), "linear_programming", 1000, np.random.default_rng(0))
    settings = {tuple(search.targets[1][:, 0] * search.targets[1][0, 0]) for _ in search._every_setting(1)}
    angles = np.linspace(0, 2 * np.pi, 361)
    z = np.stack([np.cos(angles), np.sin(angles)], 1) @ x.T
    offsets = np.linspace(-4, 4, 401)
    signs = np.where(z[:, None] + offsets[:, None] > 0, 1.0, -1.0).reshape(-1, 4)
    assert settings == {tuple(row * row[0]) for row in np.unique(signs, axis=0)}
    assert search.steps <= 8
    search._limit = 3
    search._solved_units.clear()
    with pytest.raises(BudgetSpent):
        list(search._every_setting(1))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), "model is Linear, ReLU, Linear; expected"),
        (_net(2, 2, 1, threshold=mm.QuantizedReLU), "model is Linear, QuantizedReLU, Linear; expected"),
        (nn.Linear(2, 1), "model is Linear; expected an nn.Sequential"),
        (_net(3, 2, 1), r"x has shape \(4, 2\); expected \(N, 3\)"),
    ],
)
def test_other_networks_are_refused_in_words(net: nn.Module, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        mm.FeasibleTargetPropagation().solve(net, *_parity(2))


def test_mistakes() -> None:
    x, y = _parity(2)
    with pytest.raises(ValueError, match="values from 0 to 2; expected integers from 0 to 1"):
        mm.FeasibleTargetPropagation().solve(_net(2, 2, 2), x, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="torch.float32 and values from 0 to 1; expected integers"):
        mm.FeasibleTargetPropagation().solve(_net(2, 2, 2), x, y.float())
    with pytest.raises(ValueError, match="x holds numbers that are not finite"):
        mm.FeasibleTargetPropagation().solve(_net(2, 2, 2), x / 0, y)
    with pytest.raises(ValueError, match="budget is 0; expected an integer"):
        mm.FeasibleTargetPropagation(budget=0)
    with pytest.raises(ValueError, match="Did you mean 'perceptron'"):
        mm.FeasibleTargetPropagation(separability="perceptrons")
    with pytest.raises(ValueError, match=r"takes all samples at once.*call its solve\(model, x, y\)"):
        mm.training.fit(_net(2, 2, 2), ((x, y), (x, y)), method=mm.FeasibleTargetPropagation())  # pyright: ignore
