"""Networks of many kinds are measured; one that is known to train is not called one that does not."""

import re
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import minimand as mm
from sweeps import thin
from zoo import ZOO

_EACH_RUN = ("squeezenet1_0", "resnet18", "nfnet_l0", "vit_tiny_patch16_224", "bert", "gpt2")
_PACKAGES = all(map(find_spec, ("timm", "torchvision", "transformers")))


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 30


@pytest.mark.skipif(not _PACKAGES, reason="timm, torchvision and transformers are not all installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", thin(ZOO, _EACH_RUN))
def test_what_trains_is_not_called_hopeless(name: str) -> None:
    torch.manual_seed(0)
    model, batch = ZOO[name]()
    verdict = mm.diagnose(model, batch, theory=False).verdict
    assert verdict.severity != "fatal", str(verdict)


@pytest.mark.parametrize("gradient", ["implicit", "jacobian_free", "reversible"])
def test_layers_of_an_equilibrium_are_measured_once_at_the_solution(gradient: str) -> None:
    """Not at each of the states that a solver asks, nor at those that the backward pass does."""
    torch.manual_seed(0)
    inner = nn.Linear(8, 8)
    solver = mm.Coupled(max_steps=20, relaxation=0.4) if gradient == "reversible" else mm.Anderson(tolerance=1e-6)
    layer = mm.Equilibrium(nn.Sequential(inner, nn.Tanh()), solver, gradient)
    x = torch.randn(16, 8)
    report = mm.diagnose(nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 3)), x, target=torch.zeros(16).long())
    assert [stat.name for stat in report.layers] == ["0", "1.block.body.0", "2"]
    assert [stat.activation for stat in report.layers] == [None, "tanh", None]
    first = nn.Linear(8, 8)
    with torch.no_grad():
        answer = inner(layer.solve(first(x)).value)
    report = mm.diagnose(nn.Sequential(first, layer, nn.Linear(8, 3)), x)
    assert report.layers[1].second_moment == pytest.approx(float(answer.square().mean()), rel=1e-3)
    assert not isinstance(report.layers[1].chi, float)  # nothing goes back to the state that was solved for
    assert str(layer.gradient).lower().startswith(gradient.replace("_", ""))


@pytest.mark.parametrize("gradient", ["implicit", "reversible"])
def test_gradients_in_an_equilibrium_are_those_of_its_solution(gradient: str) -> None:
    """z = z / 2 + x: of dl/dz = v come 2 v, to the block's answer as to x; steps of the linear solve are not added."""
    body = nn.Linear(8, 8, bias=False)
    nn.init.eye_(body.weight).data.mul_(0.5)
    network = nn.Sequential(nn.Linear(8, 8), mm.Equilibrium(body, gradient=gradient), nn.Linear(8, 3))
    first, inside, _ = mm.diagnose(network, torch.randn(16, 8)).layers
    assert inside.gradient == pytest.approx(first.gradient, rel=1e-2)


def test_names_in_a_narrow_table_tell_layers_apart() -> None:
    model = mm.create_model("gpt_nano", num_tokens=7, context=6)
    text = mm.diagnose(model, model.noise(2), theory=False).text(80)
    names = re.findall(r"^\S*(?:block|b\.)\S*", text, re.M)
    assert len(set(names)) == len(names) > 4
