"""Every registered training method: what each has to hold."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from layerwise_models import digits
from minimand.training.loop.events import Event, StepDone
from minimand.training.methods._registry import METHODS, as_method, method_from_config
from ranks import on_ranks

ROOT = Path(__file__).parents[3]
STEPS = 4


def _network(method: str) -> nn.Module:
    torch.manual_seed(0)
    activation = mm.Sign if method == "target_propagation" else nn.Tanh
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 12), activation(), nn.Linear(12, 10)
    )


def _trained(method: str, run: Path | None = None, stop: int | None = None) -> dict[str, Tensor]:
    """The weights after two epochs of a few digits; training asks itself to stop after a step."""
    model = _network(method)

    def look(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    recipe = mm.Recipe(2, 32, mm.AdamW(1e-2), ema=0.5)
    try:
        mm.fit(model, (digits(32 * STEPS), digits(50)), method=method, recipe=recipe, run=run, callbacks=[look])
    except KeyboardInterrupt:
        assert stop is not None
    return model.state_dict()


def _same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=0, atol=tolerance) for name in b)


@pytest.mark.parametrize("method", METHODS)
def test_it_trains(method: str) -> None:
    """It changes the weights of every layer, and the loss falls."""
    model = _network(method)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = mm.fit(model, (digits(), digits(100)), method=method, recipe=mm.Recipe(10, 32, mm.AdamW(1e-2)))
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_it_resumes_to_the_same_bits(method: str, tmp_path: Path) -> None:
    whole = _trained(method, tmp_path / "whole")
    _trained(method, tmp_path / "run", STEPS + 2)
    assert _same(_trained(method, tmp_path / "run"), whole)


@pytest.mark.parametrize("method", [name for name, cls in METHODS.items() if cls.distributed is not None])
def test_two_processes_train_what_one_does(method: str, tmp_path: Path) -> None:
    alone = _trained(method)
    for together in on_ranks(2, tmp_path, lambda rank, folder: _trained(method)):
        assert isinstance(together, dict), together
        assert _same(together, alone, 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_its_name_is_it(method: str) -> None:
    default: Any = METHODS[method]()
    assert as_method(method) == as_method(f"{method}()") == as_method(METHODS[method]) == as_method(default) == default
    assert method_from_config(type(default).__name__) == default


@pytest.mark.parametrize("method", METHODS)
def test_it_is_cited_and_documented(method: str) -> None:
    assert METHODS[method].references
    for key in METHODS[method].references:
        assert f"{{{key}," in mm.bibliography(method)
    assert METHODS.lines()[method]
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    assert any(METHODS[method].__name__ in page or f'"{method}' in page for page in pages)
