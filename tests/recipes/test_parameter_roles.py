"""The parameters of a language model by their roles: what decays, what Muon moves, what has a rate of its own."""

from typing import Literal

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.recipes.parameter_groups import hidden_matrices, trainable_parameters


def _model() -> mm.UnrolledNetwork:
    algorithm = mm.algorithms.HeavyBall(momentum=mm.Learnable(0.5, low=0, high=1))
    return mm.create_model("gpt_nano(width=16, depth=2)", algorithm, num_tokens=30, context=8)


@pytest.mark.parametrize("optimizer", [mm.AdamW(1e-2, weight_decay=0.1), mm.Muon(weight_decay=0.1)])
def test_coefficients_have_a_rate_of_their_own_and_never_decay(optimizer: mm.AdamW | mm.Muon) -> None:
    model = _model()
    names = {parameter: name for name, parameter in model.named_parameters()}
    base = optimizer.build(model, scalars=1.0)
    scaled = optimizer.build(model, scalars=5.0)
    shares = [
        {names[p]: (group["share"], group["weight_decay"]) for group in built.param_groups for p in group["params"]}
        for built in (base, scaled)
    ]
    assert shares[0].keys() == shares[1].keys() == set(names.values())
    coefficients = [name for name in shares[0] if ".coefficients." in name]
    assert coefficients
    for name, (share, decay) in shares[0].items():
        factor = 5 if name in coefficients else 1
        assert shares[1][name][0] == pytest.approx(factor * share)
        assert (decay > 0) == (name.endswith("weight") and "norm" not in name and "head.module.0" not in name) or (
            decay == 0 and isinstance(optimizer, mm.Muon)  # the others of Muon do not decay
        )


@pytest.mark.parametrize("method", ["layerwise", "decoupled(auxiliary='auglocal')", "deep_supervision"])
def test_coefficients_have_it_under_every_method(method: str) -> None:
    algorithm = mm.algorithms.HeavyBall(momentum=mm.Learnable(0.5, low=0, high=1))
    model = mm.create_model("mlp(width=8, depth=3)", algorithm, in_channels=4, num_classes=2)
    recipe = mm.Recipe(1, 10, mm.SGD(0.1), scalars=1e-9)
    data = torch.randn(20, 4), torch.arange(20) % 2
    mm.fit(model, (data, data), method=method, recipe=recipe, progress=False)
    torch.testing.assert_close(model.stages[0].coefficients["momentum"].detach(), torch.full((3,), 0.5))


@pytest.mark.parametrize("at", ["blocks", "branches"])
def test_coefficients_of_a_rewired_model_have_the_rate_of_coefficients_too(at: Literal["blocks", "branches"]) -> None:
    layers = [nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True) for _ in range(2)]
    model = mm.rewire(nn.Sequential(*layers), "heavy_ball(momentum=Learnable(0.5, 0, 1))", at=at)
    (coefficient,) = (entry for entry in trainable_parameters(model) if entry.is_coefficient)
    built = mm.AdamW(1e-2, weight_decay=0.1).build(model, scalars=5.0)
    groups = [group for group in built.param_groups if any(p is coefficient.parameter for p in group["params"])]
    assert [(group["share"], group["weight_decay"], len(group["params"])) for group in groups] == [(5.0, 0.0, 1)]


def test_muon_moves_every_matrix_between_features_and_no_table_of_tokens() -> None:
    model = _model()
    hidden = {entry.name for entry in trainable_parameters(model) if entry.parameter in hidden_matrices(model)}
    between = {name for name, p in model.named_parameters() if name.startswith("body") and p.ndim == 2}
    assert hidden == between
