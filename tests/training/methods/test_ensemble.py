"""The classifiers of all blocks as one, and what training does with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

import minimand as mm
from layerwise_models import digits, new_model, recipe, same
from minimand.models.vision.greedy import greedy_cifar
from minimand.networks.as_network import as_network
from minimand.training.methods.local.layerwise import Ensemble


@pytest.mark.parametrize("name", ["momentum", "chain"])
def test_it_weighs_the_classifiers_by_powers_of_two(name: str) -> None:
    model, x = new_model(name).eval(), digits(6)[0]
    plan = mm.Layerwise(hidden_layers=2).plan(model, lambda: x, 10, 1)
    outputs = [problem.module.eval()(x) for problem in plan.problems]
    weights = torch.tensor([2.0**j for j in range(len(outputs))])
    weights /= 2 ** len(outputs) - 1
    ensemble = cast(Ensemble, plan.ensemble).eval()
    expected = sum(w * z for w, z in zip(weights, outputs, strict=True))
    torch.testing.assert_close(ensemble(x), expected, rtol=1e-4, atol=1e-5)
    other = mm.Layerwise(ensemble="probabilities").plan(model, lambda: x, 10, 1)
    probabilities = [problem.module.eval()(x).softmax(1) for problem in other.problems]
    expected = sum(w * p for w, p in zip(weights, probabilities, strict=True))
    torch.testing.assert_close(cast(Ensemble, other.ensemble).eval()(x).exp(), expected, rtol=1e-4, atol=1e-6)


def test_it_is_there_after_training_and_after_a_resumed_run(tmp_path: Path) -> None:
    data, method = (digits(), digits(64)), mm.Layerwise(hidden_layers=2)
    result = mm.fit(new_model("momentum"), data, method=method, recipe=recipe(2), run=tmp_path / "run")
    evaluation = result.ensemble_evaluation
    assert result.ensemble is not None
    assert evaluation is not None
    assert mm.evaluate(result.ensemble, data, precision="fp32").loss == pytest.approx(evaluation.loss)
    assert f"all classifiers together: {100 * cast(float, evaluation.accuracy):.2f} %" in str(result)
    again = mm.fit(new_model("momentum"), data, method=method, recipe=recipe(2), run=tmp_path / "run")
    assert again.ensemble is not None
    assert again.ensemble_evaluation == evaluation
    assert same(again.ensemble, result.ensemble)
    whole = mm.fit(new_model("chain"), data, recipe=recipe())
    assert whole.ensemble is None
    assert str(whole).endswith("epochs")


@pytest.mark.parametrize("cache", ["off", "memory"])
def test_the_last_block_is_learned_anew_below_a_smaller_head(cache: Any) -> None:
    """The published shrinking: everything below the last block stays, bit for bit."""
    data = (digits(), digits(64))
    large = greedy_cifar(3, in_channels=1, width=4)
    mm.fit(large, data, method=mm.Layerwise(3), recipe=recipe())
    small = greedy_cifar(3, in_channels=1, width=4, head_width=2)
    assert sum(p.numel() for p in small[-1].parameters()) < sum(p.numel() for p in large[-1].parameters())
    small[:-1].load_state_dict(large[:-1].state_dict())
    result = mm.fit(small, data, method=mm.Layerwise(3, start=-1, cache=cache), recipe=recipe(2))
    assert same(small[:-2], large[:-2])
    assert not same(small[-2], large[-2])
    assert len(result.history) == 2
    assert result.ensemble is None


@pytest.mark.parametrize("start", [1, -2])
def test_training_begins_at_a_block_and_the_cache_with_it(start: int) -> None:
    model = new_model("momentum")
    before = as_network(new_model("momentum"))
    network, data = as_network(model), (digits(), digits(64))
    result = mm.fit(model, data, method=mm.Layerwise(start=start, cache="memory"), recipe=recipe())
    first = start % len(network.layers)
    frozen = [cast(nn.Module, network.stem), *network.layers[:first]]
    assert all(same(a, b) for a, b in zip(frozen, [before.stem, *before.layers[:first]], strict=True))
    assert all(not same(a, b) for a, b in zip(network.layers[first:], before.layers[first:], strict=True))
    assert len(cast(Ensemble, result.ensemble).heads) == len(network.layers) - first - 1
    plain = new_model("momentum")
    mm.fit(plain, data, method=mm.Layerwise(start=start), recipe=recipe())
    for x, y in zip(plain.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_probabilities_of_tokens_are_those_of_each_token() -> None:
    model, x = mm.create_model("gpt_nano", num_tokens=5, context=6, width=8, heads=2, depth=2), torch.zeros(3, 6).long()
    plan = mm.Layerwise(auxiliary="linear", ensemble="probabilities").plan(model, lambda: x, 5, 1)
    total = cast(Ensemble, plan.ensemble).eval()(x).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(3, 6))


class _Last(nn.Module):
    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(x)


@pytest.mark.parametrize("wrap", [lambda x: x.squeeze(1), lambda x: {"logits": x}])
def test_a_network_may_give_its_one_output_without_a_dimension_or_by_name(wrap: Callable[[torch.Tensor], Any]) -> None:
    inner = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)]
    model, data = nn.Sequential(*inner, nn.Linear(4, 1), _Last(wrap)), (torch.randn(20, 4), torch.randn(20))
    result = mm.fit(model, (data, data), method=mm.Layerwise(auxiliary="linear"), recipe=recipe(1), progress=False)
    assert result.ensemble is not None
    assert result.ensemble(data[0]).numel() == 20


def test_a_start_that_is_no_block_is_named() -> None:
    for start in (4, -5):
        with pytest.raises(ValueError, match=f"Layerwise.start is {start}, and there are 4 blocks; expected -4 to 3"):
            mm.fit(new_model("momentum"), (digits(64), digits(64)), method=mm.Layerwise(start=start))


def test_data_without_the_last_classes_have_classifiers_of_all() -> None:
    x, y = digits(64)
    data = (x[y < 7], y[y < 7])
    result = mm.fit(new_model("chain"), (data, data), method=mm.Layerwise(auxiliary="linear"), recipe=recipe(1))
    assert result.ensemble is not None
    assert result.ensemble(x).shape == (64, 10)
