"""Early stopping by a validation part: the best weights are kept, and nothing of the part is trained on."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.training.loop.events import EpochDone, Event, StepDone, Warned

NOISE = mm.Recipe(40, 20, mm.SGD(0.3), "cosine", validation=0.25, early_stopping=3)  # type: ignore[arg-type]
"""Labels are noise, so that the validation loss soon rises."""


def _data(samples: int = 80) -> Any:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 6, generator=generator), torch.randint(2, (samples,), generator=generator)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_weights_with_the_lowest_validation_loss_are_kept(ema: float) -> None:
    model, snapshots, warnings = _model(), [], []

    def look(event: Event) -> None:
        if isinstance(event, EpochDone):
            snapshots.append(copy.deepcopy(model.state_dict()))
        elif isinstance(event, Warned):
            warnings.append(event.message)

    recipe = mm.Recipe(**{**vars(NOISE), "ema": ema})
    result = mm.fit(model, (_data(), _data()), recipe=recipe, callbacks=[look])
    losses = [record["validation_loss"] for record in result.history]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + NOISE.early_stopping < NOISE.epochs
    assert warnings == ["stopped early: 3 epochs without a lower validation loss."]
    if not ema:
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, snapshots[best][name]), name
    # The result is that of the weights that are kept, not of the last epoch's.
    assert result.test_loss == mm.evaluate(model, (_data(), _data())).loss == result.history[best]["test_loss"]


def test_no_sample_of_the_validation_part_is_trained_on() -> None:
    x = torch.arange(40).float()[:, None]
    trained_on: set[float] = set()

    class Noting(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            (trained_on if self.training else validated).update(input.flatten().tolist())
            return super().forward(input)

    validated: set[float] = set()
    recipe = mm.Recipe(6, 5, mm.SGD(1e-4), validation=0.25)
    mm.fit(Noting(1, 1), ((x, x[:, 0]), (x[:1] + 100, x[:1, 0])), recipe=recipe)
    assert len(trained_on) == 30
    assert validated == set(x.flatten().tolist()) - trained_on | {100.0}


def test_each_block_of_layerwise_training_stops_by_itself() -> None:
    recipe = mm.Recipe(**{**vars(NOISE), "epochs": 12})
    result = mm.fit(_model(), (_data(), _data()), method="layerwise", recipe=recipe)
    epochs = [[r["validation_loss"] for r in result.history if r["problem"] == problem] for problem in (1, 2)]
    for losses in epochs:
        assert len(losses) in (12, losses.index(min(losses)) + 4)
    assert any(len(losses) < 12 for losses in epochs)


@pytest.mark.parametrize("method", ["backpropagation", "layerwise"])
def test_a_run_that_was_stopped_early_goes_on_to_the_same_bits(method: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    for at in (5, 10, 200):
        whole, parts = _model(), _model()
        expected = mm.fit(whole, (_data(), _data()), method=method, recipe=NOISE)

        def kill(event: Event, at: int = at) -> None:
            if isinstance(event, StepDone) and event.step == at:
                raise Killed

        options: dict[str, Any] = {"run": tmp_path / str(at), "checkpoint_every": 0}
        with pytest.raises(Killed) if at < 200 else nullcontext():
            mm.fit(parts, (_data(), _data()), method=method, recipe=NOISE, callbacks=[kill], **options)
        result = mm.fit(parts, (_data(), _data()), method=method, recipe=NOISE, **options)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
        assert result.test_loss == expected.test_loss
        assert [r["validation_loss"] for r in result.history] == [r["validation_loss"] for r in expected.history]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="Recipe.early_stopping is 3, but validation is 0 and .*validation=0.1"):
        mm.fit(_model(), (_data(), _data()), recipe=mm.Recipe(early_stopping=3))
    with pytest.raises(ValueError, match="Recipe.validation is 1; expected 0 to below 1"):
        mm.Recipe(validation=1)
    with pytest.raises(ValueError, match="has 9 training samples; expected at least"):
        mm.fit(_model(), (_data(9), _data(9)), recipe=mm.Recipe(1, validation=0.01))
