"""Steps in the place of activations."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm, require_torchvision
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
    inputs = []
    mm.harden(model, mm.QuantizedReLU(4))
    assert len({m for m in model.modules() if isinstance(m, mm.QuantizedReLU)}) == 9
    model.layer1[0].relu.register_forward_hook(lambda _m, _x, y: inputs.append(y))
    model(torch.randn(2, 3, 32, 32))
    assert len(inputs) == 2
    assert all(set((3 * y).round().unique().tolist()) <= {0, 1, 2, 3} for y in inputs)


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


class Functional(nn.Module):
    """A residual block of somebody, whose activations are functions, and which draws as its mode says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = F.dropout(F.gelu(self.first(x)), 0.5, self.training)
        h = torch.relu(self.second(h)) if mask is None else mask * self.second(h)
        return (x + h).relu()


class Unreadable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.linear(x)) if x.sum() > 0 else F.relu(-self.linear(x))
        return F.relu(x + h)


def _values_after(model: nn.Module) -> int:
    return sum(isinstance(m, mm.Sign) for m in model.modules())


def test_activations_called_as_functions_become_thresholds_and_come_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Functional(), nn.Linear(6, 6), nn.ReLU(), Functional(), nn.Linear(6, 2))
    reference, x = copy.deepcopy(model).eval(), torch.randn(5, 4)
    names = list(model.state_dict())
    mm.harden(model, "sign")
    assert _values_after(model) == 7
    assert list(model.state_dict()) == names
    assert "1.threshold_0: gelu, called as a function" in str(mm.changes(model))
    hard = model.eval()(x)

    def by_hand(block: nn.Module, h: Tensor) -> Tensor:
        sign = mm.Sign().values
        inner = sign(block.second(sign(block.first(h))))  # pyright: ignore[reportCallIssue]
        return sign(h + inner)

    h = by_hand(model[1], model[0](x))
    expected = model[5](by_hand(model[4], mm.Sign().values(model[2](h))))
    torch.testing.assert_close(hard, expected)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), hard)
    assert vars(copied[1])["forward"].module is copied[1]
    torch.manual_seed(0)
    assert not torch.equal(model.train()(x), model(x))  # dropout still follows the mode
    again = pickle.loads(pickle.dumps(model)).eval()
    assert torch.equal(again(x), hard)
    with pytest.raises(ValueError, match="was hardened as it runs without mask"):
        model[1](torch.randn(2, 6), torch.ones(2, 6))
    mm.changes(model).undo()
    assert torch.equal(model.eval()(x), reference(x))
    assert _values_after(model) == 0


def test_a_model_whose_own_forward_calls_functions() -> None:
    model = Functional()
    mm.harden(model, "sign")
    assert set(model.eval()(torch.randn(3, 6)).unique().tolist()) <= {-1.0, 1.0}
    mm.changes(model).undo()
    assert "forward" not in vars(model)


def test_what_cannot_be_read_stays_real_and_it_is_said() -> None:
    with pytest.raises(
        ValueError, match="no activation to harden.*The model has 3 activations called as functions; tor"
    ):
        mm.harden(Unreadable(), "sign")
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), Unreadable())
    with pytest.warns(UserWarning, match="3 activations of Sequential .* cannot read, and stay real \\(2\\); 1 become"):
        mm.harden(model, "sign")
    assert "stays real: 2: 3 activations called as functions" in str(mm.changes(model))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.map(x))


@pytest.mark.parametrize("memory", ["store", "checkpoint"])
def test_layers_are_hardened_before_they_are_rewired_and_after_it(memory: Any) -> None:
    torch.manual_seed(0)
    plain, x = nn.Sequential(*(_Residual() for _ in range(3))), torch.randn(4, 6)
    hardened = mm.harden(copy.deepcopy(plain), "sign")
    first = mm.rewire(copy.deepcopy(hardened), "heavy_ball", memory=memory)
    wired = mm.rewire(copy.deepcopy(plain), "heavy_ball", memory=memory)
    if memory != "store":
        with pytest.raises(ValueError, match="as of a layer rewired with a memory: harden it before"):
            mm.harden(wired, "sign")
        return
    after = mm.harden(wired, "sign")
    assert torch.equal(first(x), after(x))
    assert not torch.equal(after(x), hardened(x))
    mm.changes(after)[-1].undo()
    assert torch.equal(after(x), mm.rewire(copy.deepcopy(plain), "heavy_ball")(x))
    assert torch.equal(mm.changes(after).undo()(x), plain(x))


def test_functions_that_a_module_holds() -> None:
    """As torch's encoder does, whose fast path must not run the function that was replaced."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        before = encoder(x)
        mm.harden(encoder, "sign")
        assert _values_after(encoder) == 2
        hard = encoder(x)
    torch.testing.assert_close(hard, encoder(x))  # with gradients there is no fast path
    assert not torch.allclose(hard, before)
    mm.changes(encoder).undo()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), before)


def test_activations_of_timm_and_transformers() -> None:
    vit = require_timm().create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=3)
    mm.harden(vit, "sign")
    assert _values_after(vit) == 3
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **sizes))
    mm.harden(bert, "sign")
    assert _values_after(bert) == 4  # one for each map, and the pooler's
    assert bert(torch.randint(50, (2, 5))).logits.shape == (2, 2)
    mm.changes(bert).undo()
    assert _values_after(bert) == 0
