"""Gradient accumulation gives the weights of the large batch."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.data.text.text import make_text
from minimand.training.loop.events import Event, StepDone
from minimand.training.methods._registry import METHODS


def _network(method: str) -> nn.Module:
    torch.manual_seed(0)
    activation = mm.Sign if method == "target_propagation" else nn.Tanh
    layers = [nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 8), activation()]
    return nn.Sequential(*layers, nn.Linear(8, 3))


def _data(samples: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 6, generator=generator), torch.randint(3, (samples,), generator=generator)


@pytest.mark.parametrize("options", [{}, {"clip": 0.1, "ema": 0.5}])
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.accumulates])
def test_the_weights_are_those_of_the_large_batch(method: str, options: dict[str, Any]) -> None:
    """In every method that has steps; batches of 48 in parts of 12, and the last ones of 5 samples left out alike."""
    losses: dict[int, list[float]] = {1: [], 4: []}
    weights = {}
    for accumulate in (1, 4):
        model = _network(method)

        def look(event: Event, of_steps: list[float] = losses[accumulate]) -> None:
            if isinstance(event, StepDone):
                of_steps.append(event.loss)

        recipe = mm.Recipe(3, 48 // accumulate, mm.SGD(0.2), accumulate=accumulate, **options)
        mm.fit(model, (_data(101), _data(20)), method=method, recipe=recipe, callbacks=[look])
        weights[accumulate] = model.state_dict()
    assert len(losses[4]) == len(losses[1]) >= 6
    assert losses[4] == pytest.approx(losses[1], abs=1e-5)
    for name, weight in weights[1].items():
        torch.testing.assert_close(weights[4][name], weight, rtol=0, atol=1e-5)


def test_parts_of_padded_windows_count_by_their_tokens() -> None:
    """The mean of a batch is over its tokens, of which parts have more and fewer."""
    data = make_text("short", "", {"": ["a" * n + "b" for n in range(1, 25)]}, context=20, across_documents=False)
    weights = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(data.num_outputs, 4), nn.Linear(4, data.num_outputs))
        mm.fit(model, data, recipe=mm.Recipe(2, 8 // accumulate, mm.SGD(0.5), accumulate=accumulate), progress=False)
        weights.append(model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-5)


def test_a_method_that_needs_all_of_a_batch_says_so() -> None:
    class Whole(mm.training.Backpropagation):
        accumulates = False

    recipe = mm.Recipe(1, 12, accumulate=4)
    with pytest.raises(ValueError, match="accumulate is 4, but Whole needs all of a batch at once; expected 1"):
        mm.fit(_network("whole"), (_data(48), _data(20)), method=Whole(), recipe=recipe)


def test_a_part_is_as_large_as_a_batch() -> None:
    sizes = []

    class Noting(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if self.training:
                sizes.append(len(input))
            return super().forward(input)

    mm.fit(Noting(6, 3), (_data(32), _data(8)), recipe=mm.Recipe(1, 8, accumulate=3))
    assert sizes == [8, 8, 8], "32 samples are one update of 24"


def test_what_cannot_be_accumulated_is_refused() -> None:
    loader = DataLoader(TensorDataset(*_data(32)), 8)
    with pytest.raises(ValueError, match="Recipe.accumulate is 2, but the batches are those of a loader of your own"):
        mm.fit(nn.Linear(6, 3), (loader, loader), recipe=mm.Recipe(1, accumulate=2))
    with pytest.raises(ValueError, match="Recipe.accumulate is 0; expected an integer, at least 1"):
        mm.Recipe(accumulate=0)
