from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.data.samples import Arrays
from minimand.trainability.measure.reading import NOT_MEASURED
from minimand.training.fit import fit
from minimand.training.hooks.watching.watch import DoomedRunError, Watch
from minimand.training.loop.events import Warned


def _net(depth: int) -> nn.Module:
    torch.manual_seed(0)
    parts = [part for _ in range(depth) for part in (nn.Linear(2, 2) if depth < 2 else nn.Linear(16, 16), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.Tanh(), *parts, nn.Linear(16, 2))


def _train(model: nn.Module, diagnose: bool, epochs: int, **more: Any) -> Any:
    recipe = mm.Recipe(epochs=epochs, batch_size=16, optimizer=mm.SGD(lr=0.01))
    return fit(model, "nested_rings(samples=400)", recipe=recipe, diagnose=diagnose, **more)


def test_a_run_that_cannot_learn_is_stopped_with_the_reason() -> None:
    events: list[Any] = []
    with pytest.raises(DoomedRunError, match=r"before step 200.*vanishing") as stopped:
        _train(_net(40), True, 12, callbacks=[events.append])
    assert stopped.value.verdict.code == "vanishing"
    assert stopped.value.verdict.action
    assert any(isinstance(e, Warned) and "vanishing" in e.message for e in events)


def test_watching_changes_no_bit_of_a_sound_run(tmp_path: Any) -> None:
    plain, watched = (_train(_net(3), d, 2, run=tmp_path / str(d)) for d in (False, True))
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert plain.diagnosis is None
    assert watched.diagnosis.verdict.code == "ok"
    assert "Trainability before the first step" in (tmp_path / "True" / "report.html").read_text()
    assert "Trainability" not in (tmp_path / "False" / "report.html").read_text()


@pytest.mark.parametrize(("falls", "looks"), [(True, 1), (False, 2)])
def test_a_run_that_learns_is_looked_at_once(falls: bool, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def look(*args: Any, **options: Any) -> Any:
        calls.append(mm.diagnose(*args, **options))
        return calls[-1]

    monkeypatch.setattr("minimand.training.hooks.watching.watch.diagnose", look)
    training: Any = SimpleNamespace(model=_net(3), tell=calls.append)
    watch, x = Watch(training), torch.randn(64, 2)
    for step in range(201):
        watch.before_step(step, x)
        watch.after_step(1 / (1 + step * falls))
    assert len(calls) == looks
    # Theory would cost more than the pass itself.
    assert all(stat.expected_chi is NOT_MEASURED for report in calls for stat in report.layers)


def _on_pixels(lr: float, epochs: int) -> tuple[list[str], Any]:
    """Train a network on images of 0..255; what was warned of, and the result or the error."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:320, None] * (255 / 16)
    data = (Arrays(x, torch.tensor(digits.target)[:320]), Arrays(x[:64], torch.tensor(digits.target)[:64]))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    events: list[Any] = []
    recipe = mm.Recipe(epochs=epochs, batch_size=32, optimizer=mm.SGD(lr=lr))
    try:
        outcome: Any = fit(model, data, recipe=recipe, diagnose=True, callbacks=[events.append])
    except ArithmeticError as error:
        outcome = error
    return [event.message for event in events if isinstance(event, Warned)], outcome


def test_a_start_that_blows_up_is_told_at_once() -> None:
    warned, _ = _on_pixels(0.1, 2)
    assert "exploding at the input" in warned[0]
    assert any("the loss rose from" in message and "standardize the inputs" in message for message in warned)


def test_a_network_that_died_while_its_loss_fell_is_stopped() -> None:
    """The first losses are large, then the units are dead and the loss that of a guess: it fell, and nothing learns."""
    _, outcome = _on_pixels(0.05, 25)
    assert isinstance(outcome, DoomedRunError)
    assert "before step 200, as the loss, 2.3, is that of the same outputs for every sample" in str(outcome)
    assert "Before training it was exploding at the input" in str(outcome)


class _Guessing(nn.Module):
    """Outputs that are large at first, then the same for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.step = _net(40), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.step += 1
        return self.body(x) + (100.0 * x.flatten(1)[:, :1] if self.step < 30 else 0.0)


def test_a_loss_that_fell_to_that_of_a_guess_has_not_been_learned() -> None:
    with pytest.raises(DoomedRunError, match=r"before step 200, as the loss, [\d.]+, is that of the same outputs"):
        _train(_Guessing(), True, 12)
