"""Losses of blocks beside that of their classifier: similarity, and the network's own."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from layerwise_models import MODELS, digits, new_model, recipe
from minimand.experiments.reopen import used_by
from minimand.training.methods.local.layerwise import Shallow


@pytest.mark.parametrize("name", MODELS)
def test_a_global_loss_mixes_two_gradients_and_touches_no_later_layer(name: str) -> None:
    """The gradient of a block is (1 - g) times that of its classifier's loss and g times that of the network's."""
    x, y = digits(8)
    model = new_model(name)
    method = mm.Layerwise(global_weight=0.3)
    plan = method.plan(model, lambda: x, 10, 1)
    for problem in plan.problems:
        shallow = cast(Shallow, problem.module.eval())
        model.zero_grad()
        shallow.zero_grad()
        local = _gradients(shallow, F.cross_entropy(shallow(x), y))
        whole = _gradients(shallow, F.cross_entropy(model(x), y))
        method.backward(shallow, x, y, F.cross_entropy)
        own = {id(p) for p in shallow.parameters()}
        assert {id(p) for p in model.parameters() if p.grad is not None} <= own
        assert all(p.requires_grad for p in model.parameters())
        for parameter_name, p in shallow.named_parameters():
            of_last = 1.0 if shallow.is_last else 0.7
            expected = of_last * local[parameter_name] + (1 - of_last) * whole[parameter_name]
            if p.grad is not None and "coefficients" not in parameter_name:
                torch.testing.assert_close(p.grad, expected, rtol=1e-3, atol=1e-5)


def _gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(module.named_parameters(), gradients, strict=True)
    }


@pytest.mark.parametrize("cache", ["off", "memory"])
@pytest.mark.parametrize("options", [{"auxiliary": "predsim"}, {"global_weight": 0.5}])
def test_networks_learn_by_them(options: dict[str, Any], cache: Any) -> None:
    data = (digits(512), digits(128))
    convolutions = [nn.Sequential(nn.Conv2d(c, 12, 3, padding=1), nn.ReLU()) for c in (1, 12)]
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10))
    how = mm.Recipe(5, 32, mm.AdamW(1e-2))
    result = mm.fit(model, data, method=mm.Layerwise(cache=cache, **options), recipe=how)
    assert cast(float, result.test_accuracy) > 0.5
    assert cast(float, result.history[4]["test_accuracy"]) > 0.5


@pytest.mark.parametrize("auxiliary", ["predsim", "linear"])
def test_similarity_is_cited_where_it_was_used(auxiliary: Any, tmp_path: Path) -> None:
    method = mm.Layerwise(auxiliary=auxiliary)
    mm.fit(new_model("chain"), (digits(64), digits(64)), method=method, recipe=recipe(), run=tmp_path / "run")
    for cited in (mm.bibliography(method), mm.bibliography(*used_by(tmp_path / "run"))):
        assert ("nokland2019" in cited) == (auxiliary == "predsim")
        assert "belilovsky2019greedy" in cited


def test_bad_weights_are_named() -> None:
    for options, message in (
        ({"global_weight": 1.5}, "Layerwise.global_weight is 1.5; expected 0 to 1"),
        ({"memory": -1}, "Layerwise.memory is -1"),
        ({"ensemble": "logit"}, "Did you mean 'logits'"),
        ({"start": 0.5}, "Layerwise.start is 0.5; expected an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.Layerwise(**cast(Any, options))
    regression = (digits(64)[0], torch.randn(64))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1))
    with pytest.raises(ValueError, match="one number each; expected classes, which 'predsim' can compare"):
        mm.fit(model, (regression, regression), method=mm.Layerwise(auxiliary="predsim"), recipe=recipe())
