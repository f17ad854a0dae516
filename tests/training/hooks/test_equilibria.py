"""Training of networks with equilibria: what a run counts, the penalty in the loss, and a stop in between."""

from pathlib import Path

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.data.sets.nested_rings import nested_rings

RECIPE = mm.Recipe(epochs=2, batch_size=50, optimizer=mm.AdamW(5e-3))


def network(**options: float) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Linear(2, 8), mm.Equilibrium(body, **options), nn.Linear(8, 2))  # pyright: ignore


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
    for model in (plain.model, regularized.model):
        model[1].jacobian_weight = 1.0
        model.train()(torch.randn(200, 2))
        norms.append(float(model[1].penalty.detach()))
    assert norms[1] < 0.5 * norms[0]
    assert regularized.history[0]["train_loss"] > 1 + plain.history[0]["train_loss"]


def test_counts_survive_a_stop_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    def stopped_at(step: int) -> object:
        def callback(event: object) -> None:
            if getattr(event, "step", None) == step and type(event).__name__ == "StepDone":
                raise KeyboardInterrupt

        return callback

    options = {"recipe": RECIPE, "device": "cpu", "progress": False}
    whole = mm.fit(network(), nested_rings(200, 0), **options)  # pyright: ignore
    with pytest.raises(KeyboardInterrupt):
        mm.fit(
            network(),
            nested_rings(200, 0),
            run=tmp_path / "r",
            callbacks=[stopped_at(6)],
            checkpoint_every=0,
            **options,
        )  # pyright: ignore
    again = mm.fit(network(), nested_rings(200, 0), run=tmp_path / "r", **options)  # pyright: ignore
    solves = [[{k: v for k, v in r.items() if "solve" in k} for r in result.history] for result in (whole, again)]
    assert solves[0] == solves[1]
