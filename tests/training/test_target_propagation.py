"""Target propagation through hard thresholds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand.blocks import Threshold
from minimand.training import LOSSES
from minimand.training.thrifty import Thrifty


class _Surrogate(torch.autograd.Function):
    """A threshold forward, another slope backward: the oracle, which knows nothing of targets."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Threshold, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(z)
        ctx.slope = slope
        return threshold.values(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return gradients[0] * ctx.slope(z), None, None


class _As(Threshold):
    def __init__(self, threshold: Threshold, slope: Callable[[Tensor], Tensor]) -> None:
        super().__init__(threshold.low, threshold.high, threshold.jumps)
        self.threshold, self.slope = threshold, slope

    def forward(self, z: Tensor) -> Tensor:
        return _Surrogate.apply(z, self.threshold, self.slope)  # pyright: ignore[reportReturnType]


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 10))


def _convolutional() -> nn.Module:
    pooled = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    return nn.Sequential(*pooled, nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


class _SeveralUses(nn.Module):
    """One threshold used three times, its output read twice, changed in place, and bypassed by a real stream."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        stream = self.a(x)
        h = self.act(stream)
        stream = stream + self.b(h)
        h2 = self.act(stream + h)
        stream = stream + self.b(h2)
        h2 = self.act(stream)
        again = self.b(h2).mul_(0.5)
        h2 = h2 * 2
        h2.add_(1)
        return self.c(h2 + again)


_NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (_mlp, (12,)),
    "convolutional": (_convolutional, (3, 10, 10)),
    "several uses": (_SeveralUses, (12,)),
    "resnet": (lambda: mm.create_model("resnet20", width=4), (3, 16, 16)),
    "preactivation": (lambda: mm.create_model("preact_resnet20", width=4), (3, 16, 16)),
}
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": torch.ones_like,
    "saturated_hinge": lambda z: (z.abs() <= 1).to(z),
    "soft_hinge": lambda z: 1 - z.tanh() ** 2,
}


def _gradients(net: str, method: Any, threshold: Threshold) -> list[Tensor]:
    make, shape = _NETS[net]
    torch.manual_seed(0)
    model = make()
    x, y = torch.randn(6, *shape), torch.randint(10, (6,))
    if net == "convolutional":
        model(x)
    mm.harden(model, threshold)
    method.backward(model, x, y, F.cross_entropy)
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("net", _NETS)
@pytest.mark.parametrize("loss", _SLOPES)
def test_losses_equal_their_surrogate_gradients_on_whole_nets(net: str, loss: Any) -> None:
    found = _gradients(net, mm.TargetPropagation(loss), mm.Sign())
    expected = _gradients(net, mm.Backpropagation(), _As(mm.Sign(), _SLOPES[loss]))
    assert len(found) == len(expected) > 3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_saturated_hinge_is_what_a_threshold_does_under_backpropagation() -> None:
    for threshold in (mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4)):
        found = _gradients("resnet", mm.TargetPropagation("saturated_hinge"), threshold)
        torch.testing.assert_close(found, _gradients("resnet", mm.Backpropagation(), threshold), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("levels", [4, 6])
def test_the_soft_hinge_of_a_quantized_relu_is_the_published_one(levels: int) -> None:
    found = _gradients("resnet", mm.TargetPropagation(), mm.QuantizedReLU(levels))
    published = _As(mm.QuantizedReLU(levels), lambda z: torch.cosh(2 * z - 1) ** -2)
    torch.testing.assert_close(found, _gradients("resnet", mm.Backpropagation(), published), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_are_those_of_the_losses(name: str) -> None:
    z = torch.linspace(-2.03, 2.07, 40, dtype=torch.double, requires_grad=True)
    for t in (-torch.ones_like(z), torch.ones_like(z)):
        (expected,) = torch.autograd.grad(LOSSES[name].value(z, t).sum(), z)
        torch.testing.assert_close(LOSSES[name].derivative(z.detach(), t), expected)
    ignored = torch.zeros_like(z)
    assert not LOSSES[name].derivative(z.detach(), ignored).any()


def test_a_loss_and_a_rule_for_targets_of_ones_own() -> None:
    own = mm.TargetPropagation(lambda z, t: 1 - (t * z).tanh(), targets=lambda z, g: -torch.sign(g))
    torch.testing.assert_close(_gradients("mlp", own, mm.Sign()), _gradients("mlp", mm.TargetPropagation(), mm.Sign()))


def test_without_weighting_only_signs_go_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), mm.Sign(), nn.Linear(6, 3))
    x, y = torch.randn(5, 4), torch.randint(3, (5,))
    mm.TargetPropagation("linear", weighting="none").backward(model, x, y)
    h = mm.Sign()(model[0](x).detach()).requires_grad_()
    F.cross_entropy(model[2](h), y).backward()
    assert h.grad is not None
    torch.testing.assert_close(model[0].bias.grad, h.grad.sign().sum(0) / 5)


def test_thresholds_are_kept_as_bits_exactly_and_changed_ones_as_they_are() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)
            self.act = mm.Sign()

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.first(x))
            y = self.last(h)
            return y + self.last(h.mul_(3))  # the first use was packed before

    torch.manual_seed(0)
    model, x = Model(), torch.randn(4, 3, 12, 12)
    y = model(x).square().sum()
    y_by_hand = [_Surrogate.apply(model.first(x), mm.Sign(), torch.ones_like)]
    expected = (model.last(y_by_hand[0]) + model.last(3 * y_by_hand[0])).square().sum()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    mm.TargetPropagation("linear").backward(model, x, torch.zeros(1), lambda out, _: out.square().sum())
    assert y.item() == pytest.approx(expected.item())
    torch.testing.assert_close([p.grad for p in model.parameters()], list(gradients), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threshold", [mm.Sign(), mm.QuantizedReLU(4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_packed_comes_back_to_the_bit(threshold: Threshold, layout: torch.memory_format) -> None:
    h = threshold(torch.randn(3, 7, 5, 9).to(memory_format=layout))
    weight = torch.randn(2, 7, 1, 1, requires_grad=True)
    thrifty = Thrifty()
    thrifty.note(h, threshold)
    with thrifty.saving():
        y = F.conv2d(h, weight)
    saved = y.grad_fn._saved_input  # pyright: ignore
    assert saved is not h
    assert torch.equal(saved, h)
    assert saved.stride() == h.stride()


def test_fit_trains_and_logs_every_threshold() -> None:
    x = torch.randn(256, 8)
    y = (x[:, 0] * x[:, 1] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), mm.Sign(), nn.Linear(64, 64), mm.Sign(), nn.Linear(64, 2))
    recipe = mm.Recipe(epochs=60, batch_size=64, optimizer=mm.AdamW(lr=1e-2))
    done = mm.training.fit(model, ((x, y), (x, y)), mm.TargetPropagation(), recipe)
    assert done.test_accuracy is not None
    assert done.test_accuracy > 0.95
    found = done.history[-1]["thresholds"]
    assert list(found) == ["1", "3"]
    assert all(0 <= parts["flipped"] <= 1 and 0 <= parts["met"] <= 1 and parts["loss"] >= 0 for parts in found.values())


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"Sequential has no thresholds.*mm.harden\(model, mm.Sign\(\)\)"):
        mm.TargetPropagation().backward(_mlp(), torch.randn(2, 12), torch.zeros(2).long())
    with pytest.raises(ValueError, match="Did you mean 'soft_hinge'"):
        mm.TargetPropagation("softhinge")
    with pytest.raises(ValueError, match="unknown weighting 'gradients'"):
        mm.TargetPropagation(weighting="gradients")  # pyright: ignore
    with pytest.raises(ValueError, match="unknown rule for targets"):
        mm.TargetPropagation(targets="signs")  # pyright: ignore
