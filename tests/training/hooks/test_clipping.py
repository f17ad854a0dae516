"""Adaptive gradient clipping, unit by unit and against timm's."""

import copy

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm
from minimand.training.hooks.clipping import clip_adaptively


def _with_gradients(model: nn.Module, size: float) -> nn.Module:
    torch.manual_seed(0)
    for p in model.parameters():
        p.grad = size * torch.randn_like(p)
    return model


def test_gradients_are_those_of_timm() -> None:
    require_timm()
    from timm.utils.agc import adaptive_clip_grad

    model = _with_gradients(mm.create_model("resnet20", width=4), 0.1)
    with torch.no_grad():
        for p in list(model.parameters())[::3]:
            p.mul_(1e-4)  # weights that are nearly 0 count as 1e-3
    theirs = copy.deepcopy(model)
    for p, q in zip(model.parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        q.grad = p.grad.clone()
    classifier = set(theirs.get_classifier().parameters())  # type: ignore[operator]
    adaptive_clip_grad([p for p in theirs.parameters() if p not in classifier], 0.01)
    clip_adaptively(model, 0.01)
    for p, q in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_each_unit_is_clipped_by_its_own_weights() -> None:
    """Unit by unit, from the definition; small gradients and the final layer stay to the bit."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 2))
    _with_gradients(model, 1.0)
    model[0].weight.grad[1] *= 1e-6  # type: ignore[index]
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    clip_adaptively(model, 0.02)
    after = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, p in model.named_parameters():
        for unit in range(len(p)) if p.ndim > 1 else [slice(None)]:
            g, w, clipped = before[name][unit], p[unit].detach(), after[name][unit]
            bound = 0.02 * max(float(w.norm()), 1e-3)
            if name.startswith("3.") or float(g.norm()) <= bound:
                assert torch.equal(clipped, g), name
            else:
                torch.testing.assert_close(clipped, g * bound / g.norm())
    assert torch.equal(after["0.weight"][1], before["0.weight"][1])


def test_a_step_of_training_moves_no_unit_further() -> None:
    torch.manual_seed(0)
    model = mm.create_model("mlp", in_channels=4, num_classes=2, width=8, depth=3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x = 100 * torch.randn(64, 4)
    data = (x, (x[:, 0] > 0).long())
    recipe = mm.Recipe(1, 64, mm.SGD(lr=1.0, momentum=0.0, weight_decay=0.0), mm.StepDecay(at=()), adaptive_clip=0.01)
    mm.fit(model, (data, data), recipe=recipe)
    moved = {}
    for name, p in model.named_parameters():
        if p.ndim > 1:
            step = (p.detach() - before[name]).norm(dim=1)
            moved[name] = float((step / before[name].norm(dim=1).clamp_min(1e-3)).max())
    (*hidden, final) = moved.values()
    assert max(hidden) == pytest.approx(0.01, rel=1e-3)
    assert final > 0.1


def test_one_kind_of_clipping_at_a_time() -> None:
    with pytest.raises(ValueError, match=r"Recipe.clip is 1.0 and Recipe.adaptive_clip 0.01; expected one of them"):
        mm.Recipe(clip=1.0, adaptive_clip=0.01)
    with pytest.raises(ValueError, match="Recipe.adaptive_clip is -1; expected at least 0"):
        mm.Recipe(adaptive_clip=-1)


@pytest.mark.parametrize("method", ["backpropagation", "decoupled(auxiliary='mlp')", "deep_supervision"])
def test_the_final_layer_of_the_network_is_left_under_every_method(method: str) -> None:
    moved = []
    for ratio in (0.0, 1e-6):
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)), nn.Linear(4, 2))
        before = [p.detach().clone() for p in model.parameters()]
        recipe = mm.Recipe(1, 20, mm.SGD(0.1, momentum=0.0, weight_decay=0.0), mm.StepDecay(()), adaptive_clip=ratio)
        data = torch.linspace(-1, 1, 80).view(20, 4), torch.arange(20) % 2
        mm.fit(model, (data, data), method=method, recipe=recipe, progress=False)
        moved.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    free, clipped = moved
    torch.testing.assert_close(clipped[-2:], free[-2:])
    assert all(c.norm() < 0.1 * f.norm() for c, f in zip(clipped[:-2], free[:-2], strict=True))
