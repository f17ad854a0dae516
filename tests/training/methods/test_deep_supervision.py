"""Deep supervision: the gradient is that of the sum of the losses, and the trained model is the network."""

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

import minimand as mm
from layerwise_models import MODELS, digits, new_model, recipe
from minimand.training.methods.deep_supervision import Supervised


def planned(name: str, method: mm.DeepSupervision) -> Supervised:
    (problem,) = method.plan(new_model(name), lambda: digits(8)[0], 10, 1).problems
    return cast(Supervised, problem.module)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("auxiliary", ["mlp_sr", "auglocal"])
def test_the_gradient_is_that_of_the_network_and_the_mean_of_the_heads(name: str, auxiliary: Any) -> None:
    method = mm.DeepSupervision(auxiliary=auxiliary, weight=0.3)
    supervised = planned(name, method).train()
    x, y = digits(16)
    outputs, hidden, _ = supervised(x, True)
    assert len(hidden) == len(supervised.ends) >= 2
    total = F.cross_entropy(outputs, y) + 0.3 * sum(F.cross_entropy(z, y) for z in hidden) / len(hidden)
    parameters = dict(supervised.named_parameters())
    expected = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    value, _ = method.backward(supervised, x, y, F.cross_entropy)
    torch.testing.assert_close(value, F.cross_entropy(outputs, y).detach())
    for (key, p), gradient in zip(parameters.items(), expected, strict=True):
        assert (p.grad is None) == (gradient is None), key
        if gradient is not None:
            torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-5)


def test_without_weight_it_is_backpropagation() -> None:
    trained = []
    for method in (mm.Backpropagation(), mm.DeepSupervision(weight=0.0)):
        model = new_model("vectors")
        mm.fit(model, (digits(), digits(64)), method=method, recipe=recipe(2))
        trained.append(model.state_dict())
    for key, value in trained[0].items():
        torch.testing.assert_close(value, trained[1][key], rtol=1e-3, atol=1e-5)


def test_a_head_that_is_not_finite_ends_training() -> None:
    supervised = planned("vectors", mm.DeepSupervision())
    with torch.no_grad():
        next(supervised.heads[0].parameters()).fill_(float("inf"))
    x, y = digits(8)
    value, _ = mm.DeepSupervision().backward(supervised, x, y, F.cross_entropy)
    assert value.isnan()
