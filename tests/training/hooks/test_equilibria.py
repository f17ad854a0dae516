"""Training of networks with equilibria: what a run counts, the penalty in the loss, and a stop in between."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.data.sets.nested_rings import nested_rings
from minimand.training.loop.events import Callback, Event
from ranks import on_ranks

RECIPE = mm.Recipe(epochs=2, batch_size=50, optimizer=mm.AdamW(5e-3))


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Linear(2, 8), mm.Equilibrium(body, **options), nn.Linear(8, 2))


def test_a_run_counts_how_solves_ended() -> None:
    result = mm.fit(network(), nested_rings(200, 0), recipe=RECIPE, device="cpu", progress=False)
    for record in result.history:
        assert record["solves_converged"] + record["solves_stopped"] + record["solves_diverged"] == pytest.approx(1)
        assert record["solves_converged"] > 0.9
        assert 1 < record["solve_steps"] < 50
        assert record["gradient_solves_converged"] > 0.9


def test_the_penalty_is_in_the_loss_that_is_trained() -> None:
    recipe = mm.Recipe(epochs=5, batch_size=50, optimizer=mm.AdamW(2e-2))
    plain, regularized = (
        mm.fit(network(jacobian_weight=weight), nested_rings(200, 0), recipe=recipe, device="cpu", progress=False)
        for weight in (0.0, 10.0)
    )
    norms = []
    models: tuple[Any, ...] = plain.model, regularized.model
    for model in models:
        model[1].jacobian_weight = 1.0
        model.train()(torch.randn(200, 2))
        norms.append(float(model[1].penalty.detach()))
    assert norms[1] < 0.5 * norms[0]
    assert regularized.history[0]["train_loss"] > 1 + plain.history[0]["train_loss"]


def _two(weight: float) -> Any:
    torch.manual_seed(0)
    layers = [mm.Equilibrium(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), jacobian_weight=weight) for _ in range(2)]
    return nn.Sequential(nn.Linear(2, 8), layers[0], nn.Linear(8, 8), layers[1], nn.Linear(8, 2))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", [None, "decoupled(auxiliary='linear')", "deep_supervision(auxiliary='predsim')"])
def test_every_penalty_is_added_once(method: str | None, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one step of rate 1 with and without: the difference is the gradient of the penalties alone."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)  # what the Jacobian is multiplied by
    recipe = mm.Recipe(1, 40 // accumulate, mm.SGD(1.0, momentum=0.0), mm.StepDecay(at=()), accumulate=accumulate)
    data: Any = nested_rings(40, 0)
    models = [_two(weight) for weight in (0.0, 5.0)]
    for model in models:
        mm.fit(model, data, method=method, recipe=recipe, device="cpu", progress=False)
    plain = _two(5.0)
    plain(data.prepare(data.train.inputs))
    own, above = (layer.penalty for layer in (plain[1], plain[3]))
    penalties = (own, above) if method is None or "decoupled" not in method else (own,)
    expected = torch.autograd.grad(penalties, [*plain[1].parameters()])
    steps = [a - b for a, b in zip(models[0][1].parameters(), models[1][1].parameters(), strict=True)]
    torch.testing.assert_close(steps, [*expected], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "method", ["target_propagation", "decoupled(auxiliary='predsim')", "layerwise(global_weight=0.5)"]
)
def test_a_method_that_takes_a_share_of_its_losses_takes_no_penalty(method: str) -> None:
    with pytest.raises(ValueError, match="jacobian_weight=5, .*'backpropagation'"):
        mm.fit(_two(5.0), nested_rings(40, 0), method=method, progress=False)


def test_counts_survive_a_stop_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    def stopped_at(step: int) -> Callback:
        def callback(event: Event) -> None:
            if getattr(event, "step", None) == step and type(event).__name__ == "StepDone":
                raise KeyboardInterrupt

        return callback

    options: dict[str, Any] = {"recipe": RECIPE, "device": "cpu", "progress": False}
    whole = mm.fit(network(), nested_rings(200, 0), **options)
    with pytest.raises(KeyboardInterrupt):
        mm.fit(
            network(),
            nested_rings(200, 0),
            run=tmp_path / "r",
            callbacks=[stopped_at(6)],
            checkpoint_every=0,
            **options,
        )
    again = mm.fit(network(), nested_rings(200, 0), run=tmp_path / "r", **options)
    solves = [[{k: v for k, v in r.items() if "solve" in k} for r in result.history] for result in (whole, again)]
    assert solves[0] == solves[1]


def _trained(rank: int, folder: Path, gradient: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    result = mm.fit(network(gradient=gradient), nested_rings(200, 0), recipe=RECIPE, device="cpu", progress=False)
    record = result.history[-1]
    return result.model.state_dict(), {name: record[name] for name in record if "solve" in name}


@pytest.mark.parametrize("gradient", ["implicit", "reversible"])
def test_processes_that_share_batches_train_and_count_as_one_does(gradient: str, tmp_path: Path) -> None:
    weights, solves = _trained(0, tmp_path, gradient)
    for other_weights, other_solves in on_ranks(2, tmp_path, _trained, gradient):
        torch.testing.assert_close(other_weights, weights, rtol=1e-3, atol=1e-4)
        assert other_solves == pytest.approx(solves, abs=0.02)
