"""Steps in the place of activations."""

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torchvision import require_torchvision
from minimand.surgery.harden import Hardened


def test_every_activation_of_a_resnet_becomes_a_threshold_and_the_ends_stay_real() -> None:
    model = mm.create_model("resnet20", width=4)
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert mm.harden(model, "sign", weight_bits=1) is model
    (record,) = mm.changes(model)
    assert isinstance(record, Hardened)
    assert len(record.activations) == 19  # as many as convolutions, the sums' included
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert list(record.weights) == layers[1:-1]
    said = str(record).splitlines()
    assert said[0] == "thresholds in the place of 19 activations"
    assert said[1] == f"{next(iter(record.activations))}: ReLU(inplace=True)"
    assert said[-1] == f"{layers[-2]}: weight of few bits"
    y = model(torch.randn(2, 3, 16, 16))
    y.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_one_relu_that_a_torchvision_block_uses_twice() -> None:
    model = require_torchvision("a test").models.resnet18(num_classes=10)
    seen = []
    mm.harden(model, mm.QuantizedReLU(4))
    assert len({m for m in model.modules() if isinstance(m, mm.QuantizedReLU)}) == 9
    model.layer1[0].relu.register_forward_hook(lambda _m, _x, y: seen.append(y))
    model(torch.randn(2, 3, 32, 32))
    assert len(seen) == 2
    assert all(set((3 * y).round().unique().tolist()) <= {0, 1, 2, 3} for y in seen)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), mm.Sign()), nn.ReLU()])
def test_nothing_to_change_is_an_error_that_lists_what_it_looked_for(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"no activation to harden; looked for .*ReLU.*GELU"):
        mm.harden(model, mm.Sign())


def test_mistakes() -> None:
    with pytest.raises(TypeError, match=r"expected a threshold such as mm.Sign\(\)"):
        mm.harden(nn.Sequential(nn.ReLU()), nn.Tanh())  # pyright: ignore
    with pytest.raises(TypeError, match=r"activation is StepDecay\(.*mm.Heaviside\(\), which is the step from 0 to 1"):
        mm.harden(nn.Sequential(nn.ReLU()), mm.StepDecay())  # pyright: ignore
    with pytest.raises(ValueError, match="weight_bits is 3; expected 1, 2, 4 or 8"):
        mm.harden(nn.Sequential(nn.ReLU()), mm.Sign(), weight_bits=3)


@pytest.mark.parametrize(
    ("activation", "weights"),
    [("sign", None), ("quantized_relu(levels=4)", 2), ("staircase(steps=3, low=-1, high=2)", 8)],
)
def test_a_hardened_network_is_made_again_from_its_configuration(activation: str, weights: int | None) -> None:
    model = mm.create_model(f"resnet20(width=4, activation={activation!r})", depth=3, weight_bits=weights)
    by_hand = mm.create_model("resnet20", width=4, depth=3)
    mm.harden(by_hand, activation, weights)
    assert by_hand.config == model.config
    again = mm.UnrolledNetwork(**by_hand.config).eval()
    again.load_state_dict(by_hand.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(x), by_hand.eval()(x))
    assert str(again) == str(by_hand)


def test_weights_of_one_bit_are_cited() -> None:
    assert "rastegari2016xnor" in mm.bibliography(mm.create_model("resnet20", activation="sign", weight_bits=1))
    assert "rastegari2016xnor" not in mm.bibliography(mm.create_model("resnet20", activation="sign", weight_bits=2))


def test_mistakes_in_a_name() -> None:
    with pytest.raises(ValueError, match="unknown activation 'sgn'. Did you mean 'sign'"):
        mm.harden(nn.Sequential(nn.ReLU()), "sgn")
    with pytest.raises(ValueError, match="unknown activation 'sgn'. Did you mean 'sign'"):
        mm.create_model("resnet20", activation="sgn")
    with pytest.raises(ValueError, match="unknown argument of quantized_relu 'level'. Did you mean 'levels'"):
        mm.create_model("resnet20", activation="quantized_relu(level=4)")
    with pytest.raises(ValueError, match="weight_bits is 1, but activation is None"):
        mm.create_model("resnet20", weight_bits=1)
