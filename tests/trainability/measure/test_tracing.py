from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand.networks.kinds import layers
from minimand.networks.undisturbed import undisturbed
from minimand.trainability.measure.tracing import measured, trace


class Disordered(nn.Module):
    """Registered last to first; functions and a method for activations; one layer twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.shared = nn.Linear(4, 4)
        self.slow = nn.Linear(4, 4)
        self.first = nn.Linear(3, 4)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)), approximate="tanh")
        x = self.dropout(self.shared(x)).tanh()
        x = x + F.leaky_relu(self.shared(x), 0.3)
        return self.head(self.slow(x).reshape(-1, 4))


def test_layers_come_in_the_order_they_ran_with_what_follows() -> None:
    traced = trace(Disordered(), torch.randn(5, 3))
    assert [(call.name, call.run, str(call.activation)) for call in traced.calls] == [
        ("first", 0, "gelu"),
        ("shared", 0, "tanh"),
        ("shared", 1, "leaky_relu"),
        ("slow", 0, "None"),
        ("head", 0, "None"),
    ]
    assert traced.unused == ("unused",)
    assert traced.runs == {"first": 1, "shared": 2, "slow": 1, "head": 1}
    # The slow layer reads the skip and the branch.
    assert {i: str(a) for i, a in traced.calls[3].after.items()} == {1: "tanh", 2: "leaky_relu"}
    assert traced.calls[4].after == {3: None}
    x = torch.linspace(-2, 2, 9)
    activations = [call.activation for call in traced.calls[:3]]
    expected = [F.gelu(x, approximate="tanh"), x.tanh(), F.leaky_relu(x, 0.3)]
    for activation, value in zip(activations, expected, strict=True):
        assert activation is not None
        torch.testing.assert_close(activation.function(x), value)


def test_inplace_modules_and_direct_reading() -> None:
    traced = trace(
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.PReLU(init=0.1)), torch.ones(2, 3)
    )
    first, second = traced.calls
    assert str(first.activation) == "relu"
    assert str(second.activation) == "prelu"
    x = torch.tensor([-2.0, 3.0])
    assert first.activation is not None
    assert second.activation is not None
    first.activation.function(x)
    assert x.tolist() == [-2, 3]
    torch.testing.assert_close(second.activation.function(x), torch.tensor([-0.2, 3.0]))
    direct = trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), torch.ones(2, 3))
    assert direct.calls[0].writes == direct.calls[1].reads


@pytest.mark.parametrize("training", [True, False])
def test_attention_and_recurrent_layers_count_as_one(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu").train(training)
    with torch.no_grad():
        traced = trace(layer, torch.randn(2, 5, 8))
    assert [(c.name, str(c.activation)) for c in traced.calls] == [
        ("self_attn", "None"),
        ("linear1", "gelu"),
        ("linear2", "None"),
    ]
    lstm = nn.LSTM(4, 6, batch_first=True)
    assert [call.name for call in trace(lstm, torch.randn(2, 5, 4)).calls] == [""]
    assert list(layers(nn.Sequential(lstm, layer))) == ["0", "1.self_attn", "1.linear1", "1.linear2"]


def test_nothing_is_left_behind_even_when_the_model_raises() -> None:
    class Failing(Disordered):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise RuntimeError("inside")

    for model in (Disordered(), Failing()):
        model.dropout.eval()
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        modes, state = [m.training for m in model.modules()], torch.get_rng_state()
        failing = pytest.raises(RuntimeError, match="inside") if isinstance(model, Failing) else nullcontext()
        with failing, undisturbed(model):
            measured(model)
            trace(model, torch.randn(5, 3, generator=torch.Generator()))
        assert modes == [m.training for m in model.modules()]
        assert torch.equal(state, torch.get_rng_state())
        for name, value in model.named_buffers():
            torch.testing.assert_close(value, buffers[name], rtol=0, atol=0)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert torch.randn(1, requires_grad=True).relu().grad_fn is not None


def test_a_visitor_replaces_what_a_layer_returns() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    traced = trace(model, torch.ones(2, 3), visit=lambda call, y: torch.zeros_like(y) if call.index == 0 else None)
    assert torch.equal(traced.output, torch.zeros(2, 2))
    assert str(traced.calls[0].activation) == "relu"


def test_our_networks_and_stages_are_seen() -> None:
    traced = trace(mm.create_model("resnet20"), torch.randn(2, 3, 8, 8))
    assert len(traced.calls) == 20
    assert str(traced.calls[0].activation) == "relu"
    assert not traced.unused


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (nn.Linear(2, 2), torch.ones(0, 2), r"shape \(0, 2\)"),
        (nn.Linear(2, 2), torch.tensor([[1.0, float("nan")]]), "1 entries that are not finite"),
        (nn.Linear(2, 2), 3, "expected a tensor"),
        (nn.LazyLinear(2), torch.ones(1, 2), "weight is lazy"),
        (nn.Linear(2, 2, device="meta"), torch.ones(1, 2), "meta device"),
        (nn.Sequential(nn.ReLU()), torch.ones(1, 2), "no layer to trace.*ReLU"),
    ],
)
def test_what_cannot_be_traced_is_refused(model: nn.Module, batch: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trace(model, batch)
