"""What `fit` leaves as it was: the caller's random state, modes of modules, and names of weights."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.training import list_methods
from minimand.training.loop.events import Event, StepDone, Warned

RECIPE = mm.Recipe(2, 20, mm.SGD(0.05))


def _data() -> Any:
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    y = x[:, :3].argmax(1)
    return (x, y), (x, y)


def _states() -> list[Any]:
    state: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), state[1].tolist(), *state[2:], random.getstate()]


def _network() -> nn.Sequential:
    first = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1))
    return nn.Sequential(*first, nn.Linear(8, 8), mm.Sign(), nn.Linear(8, 3))


def _stops(event: Event) -> None:
    if isinstance(event, StepDone) and event.step == 2:
        raise KeyboardInterrupt


def _noting(notes: list[str]) -> Callable[[Event], None]:
    return lambda event: notes.append(event.message) if isinstance(event, Warned) else None


@pytest.mark.parametrize("method", [name for name in list_methods() if name != "feasible_target_propagation"])
def test_random_states_are_as_before_whether_training_ends_or_is_stopped(method: str) -> None:
    model, before = _network(), _states()
    mm.fit(model, _data(), method=method, recipe=RECIPE)
    assert _states() == before
    with pytest.raises(KeyboardInterrupt):
        mm.fit(model, _data(), method=method, recipe=RECIPE, callbacks=[_stops])
    with pytest.raises(ValueError, match="Recipe.cutmix"):
        mm.fit(model, _data(), method=method, recipe=mm.Recipe(cutmix=1.0))
    assert _states() == before


def test_replicates_differ() -> None:
    losses = [mm.fit(nn.Linear(6, 3), _data(), recipe=RECIPE).test_loss for _ in range(4)]
    assert len(set(losses)) == 4


def test_the_generator_of_a_loader_is_left_as_it_was() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(*_data()[0]), 20, shuffle=True, generator=generator)
    before = generator.get_state()
    mm.fit(_network(), (loader, None), recipe=RECIPE)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("method", ["backpropagation", "target_propagation", "layerwise", "decoupled"])
def test_a_normalization_in_evaluation_mode_stays_frozen(method: str) -> None:
    model = _network()
    frozen = model[1]
    assert isinstance(frozen, nn.BatchNorm1d)
    frozen.eval()
    mean = frozen.running_mean
    assert mean is not None
    before, notes = mean.clone(), list[str]()
    mm.fit(model, _data(), method=method, recipe=RECIPE, callbacks=[_noting(notes)])
    assert torch.equal(mean, before)
    assert [m.training for m in model] == [True, False, True, True, True, True, True]
    assert not notes


@pytest.mark.parametrize("method", ["backpropagation", "layerwise"])
def test_a_model_in_evaluation_mode_is_trained_in_training_mode_and_it_is_said(method: str) -> None:
    model, notes = _network().eval(), list[str]()
    mm.fit(model, _data(), method=method, recipe=RECIPE, callbacks=[_noting(notes)])
    assert len(notes) == 1
    assert "the model is in evaluation mode" in notes[0]
    assert all(module.training for module in model.modules())


class _Scaled(nn.Module):
    """A cross-entropy of scaled logits, with a scale to be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs * self.scale, y)


def test_the_parameters_of_a_loss_are_trained_and_come_back_from_a_checkpoint(tmp_path: Any) -> None:
    torch.manual_seed(0)
    first = nn.Linear(6, 3)
    weights = {name: x.clone() for name, x in first.state_dict().items()}
    loss = _Scaled()
    mm.fit(first, _data(), recipe=RECIPE, loss=loss)
    assert loss.scale.item() != 1
    again, second = _Scaled(), nn.Linear(6, 3)
    second.load_state_dict(weights)
    with pytest.raises(KeyboardInterrupt):
        mm.fit(second, _data(), recipe=RECIPE, loss=again, run=tmp_path / "run", callbacks=[_stops], checkpoint_every=0)
    third, other = _Scaled(), nn.Linear(6, 3)
    mm.fit(other, _data(), recipe=RECIPE, loss=third, run=tmp_path / "run")
    assert torch.equal(third.scale, loss.scale)
    assert torch.equal(other.weight, first.weight)


def test_gradients_of_a_loss_are_clipped_with_those_of_the_model() -> None:
    model, loss = nn.Linear(6, 3), _Scaled()
    before = torch.cat([p.detach().flatten().clone() for p in (*model.parameters(), *loss.parameters())])
    sgd = mm.SGD(lr=1.0, momentum=0.0, weight_decay=0.0)
    mm.fit(model, _data(), recipe=mm.Recipe(1, 10**6, sgd, mm.StepDecay(at=()), clip=0.01), loss=loss)
    after = torch.cat([p.detach().flatten() for p in (*model.parameters(), *loss.parameters())])
    assert float((after - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_checkpoints_of_a_compiled_model_have_its_own_names(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    wrapped: Any = torch.compile(model, backend="eager")
    result = mm.fit(wrapped, _data(), recipe=RECIPE, run=tmp_path / "run")
    assert result.model is wrapped
    (last, *_) = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    assert {name for name in load_file(last) if name.startswith("model/")} == {"model/weight", "model/bias"}
    plain = nn.Linear(6, 3)
    plain.load_state_dict(weights)
    mm.fit(plain, _data(), recipe=mm.Recipe(2, 20, mm.SGD(0.05), compile=True), run=tmp_path / "run")  # goes on: done
    assert torch.equal(plain.weight, model.weight)


def test_nesterov_momentum_is_a_choice() -> None:
    for nesterov in (True, False):
        torch.manual_seed(0)
        model, own = nn.Linear(6, 3), nn.Linear(6, 3)
        own.load_state_dict(model.state_dict())
        (x, y), _ = _data()
        recipe = mm.Recipe(5, 60, mm.SGD(0.1, weight_decay=0.0, nesterov=nesterov), mm.StepDecay(at=()))
        mm.fit(model, ((x, y), (x, y)), recipe=recipe)
        optimizer = torch.optim.SGD(own.parameters(), 0.1, 0.9, nesterov=nesterov)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(own(x), y).backward()
            optimizer.step()
        assert torch.allclose(model.weight, own.weight, atol=1e-5)
