"""Target propagation through hard thresholds."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand.layers.thresholds import Threshold
from minimand.training.methods.targets import search as target_search
from minimand.training.methods.targets.passes import TargetPass, TargetRules
from minimand.training.methods.targets.saved_bits import SavedActivations
from minimand.training.methods.targets.unit_losses import LOSSES, as_unit_loss


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
    gradients = _gradients(net, mm.TargetPropagation(loss), mm.Sign())
    expected = _gradients(net, mm.Backpropagation(), _As(mm.Sign(), _SLOPES[loss]))
    assert len(gradients) == len(expected) > 3
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("threshold", [mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4), mm.Staircase(7, -2.0, 3.0)])
def test_a_width_stretches_the_slope_about_the_middle_of_the_jumps(threshold: Threshold, width: float) -> None:
    z = torch.linspace(-9, 9, 7201)
    middle = 0.5 if isinstance(threshold, mm.Heaviside) else (threshold.jumps[0] + threshold.jumps[-1]) / 2

    def slope(loss: str, width: float, z: Tensor) -> Tensor:
        rules = TargetRules(as_unit_loss(loss, width), "sign", True, 4, width)
        return TargetPass(rules, threshold, z, z, F.mse_loss, False).gradient(0, threshold, z, torch.ones_like(z))

    center = middle if threshold.levels > 2 else 0.0  # a soft hinge of one step is that of its input
    torch.testing.assert_close(
        slope("soft_hinge", width, z), slope("soft_hinge", 1.0, center + (z - center) / width), rtol=1e-3, atol=1e-5
    )
    passed = [(slope("saturated_hinge", w, z) != 0).sum() for w in (1.0, width)]
    assert int(passed[1]) == pytest.approx(width * int(passed[0]), rel=0.01)
    assert torch.equal(slope("linear", width, z), torch.ones_like(z))


@pytest.mark.parametrize("net", ["several uses", "resnet", "preactivation"])
def test_backward_walks_the_thresholds_in_the_reverse_order_of_execution(net: str) -> None:
    walked: list[int] = []
    rule = TargetPass.gradient

    def gradient(self: TargetPass, number: int, *tensors: Any) -> Tensor:
        walked.append(number)
        return rule(self, number, *tensors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TargetPass, "gradient", gradient)
        _gradients(net, mm.TargetPropagation(), mm.Sign())
    assert walked == list(reversed(range(len(walked))))
    assert len(walked) == {"several uses": 3, "resnet": 19, "preactivation": 19}[net]


def test_an_opaque_component_says_what_the_threshold_before_it_is_for() -> None:
    torch.manual_seed(0)
    opaque = mm.Opaque(lambda x: x.sum(1, keepdim=True).exp(), targets=lambda x, y, g: x - torch.ones_like(x))
    model = nn.Sequential(nn.Linear(4, 6), mm.Sign(), opaque)
    x = torch.randn(5, 4)
    mm.TargetPropagation().backward(model, x, x[:, :1], F.mse_loss)
    slope = 1 - model[0](x).tanh() ** 2  # g is 1 for all
    torch.testing.assert_close(model[0].bias.grad, slope.sum(0))


def test_the_saturated_hinge_is_what_a_threshold_does_under_backpropagation() -> None:
    for threshold in (mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4)):
        gradients = _gradients("resnet", mm.TargetPropagation("saturated_hinge"), threshold)
        torch.testing.assert_close(
            gradients, _gradients("resnet", mm.Backpropagation(), threshold), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("levels", [4, 6])
def test_the_soft_hinge_of_a_quantized_relu_is_the_published_one(levels: int) -> None:
    gradients = _gradients("resnet", mm.TargetPropagation(), mm.QuantizedReLU(levels))
    published = _As(mm.QuantizedReLU(levels), lambda z: torch.cosh(2 * z - 1) ** -2)
    torch.testing.assert_close(gradients, _gradients("resnet", mm.Backpropagation(), published), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_are_those_of_the_losses(name: str) -> None:
    z = torch.linspace(-2.03, 2.07, 40, dtype=torch.double, requires_grad=True)
    for t in (-torch.ones_like(z), torch.ones_like(z)):
        (expected,) = torch.autograd.grad(LOSSES[name].value(z, t).sum(), z)
        torch.testing.assert_close(LOSSES[name].derivative(z.detach(), t), expected)
    ignored = torch.zeros_like(z)
    assert not LOSSES[name].derivative(z.detach(), ignored).any()


def test_a_loss_and_a_rule_for_targets_of_ones_own() -> None:
    method = mm.TargetPropagation(lambda z, t: 1 - (t * z).tanh(), targets=lambda z, g: -torch.sign(g))
    torch.testing.assert_close(
        _gradients("mlp", method, mm.Sign()), _gradients("mlp", mm.TargetPropagation(), mm.Sign())
    )


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_packed_comes_back_to_the_bit(
    threshold: Threshold, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    h = threshold(torch.randn(3, 7, 5, 9).to(dtype, memory_format=layout))
    weight = torch.randn(2, 7, 1, 1, dtype=dtype, requires_grad=True)
    saved_activations = SavedActivations()
    saved_activations.register(h, threshold)
    with saved_activations.saving():
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
    result = mm.training.fit(model, ((x, y), (x, y)), method=mm.TargetPropagation(), recipe=recipe)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.95
    thresholds = result.history[-1]["thresholds"]
    assert list(thresholds) == ["1", "3"]
    assert all(
        0 <= parts["flipped"] <= 1 and 0 <= parts["met"] <= 1 and parts["loss"] >= 0 for parts in thresholds.values()
    )


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"Sequential has no thresholds.*mm.harden\(model, mm.Sign\(\)\)"):
        mm.TargetPropagation().backward(_mlp(), torch.randn(2, 12), torch.zeros(2).long())
    with pytest.raises(ValueError, match="Did you mean 'soft_hinge'"):
        mm.TargetPropagation("softhinge")
    with pytest.raises(ValueError, match="unknown weighting 'gradients'"):
        mm.TargetPropagation(weighting="gradients")  # pyright: ignore
    with pytest.raises(ValueError, match="unknown rule for targets"):
        mm.TargetPropagation(targets="signs")  # pyright: ignore
    with pytest.raises(ValueError, match="unknown rule for targets 'None'"):
        mm.TargetPropagation(targets=None)  # pyright: ignore
    with pytest.raises(ValueError, match="unknown loss of thresholds '3'"):
        mm.TargetPropagation(3)  # pyright: ignore
    for width in (0, -1.0, float("inf"), "wide"):
        with pytest.raises(ValueError, match="TargetPropagation.width is "):
            mm.TargetPropagation(width=width)  # pyright: ignore


class _Layers(nn.Sequential):
    """Dropout and normalization between thresholds."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout2d(0.3)),
            *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)),
        )


@pytest.mark.parametrize("targets", ["sign", "search", "beam"])
@pytest.mark.parametrize("net", ["chain", "resnet", "momentum"])
def test_recomputing_changes_nothing_but_memory(net: str, targets: Any) -> None:
    """Gradients, running statistics and what is drawn next; of a state of two tensors too."""
    algorithm = "heavy_ball(momentum=0.5)" if net == "momentum" else None
    torch.manual_seed(0)
    first = _Layers() if net == "chain" else mm.create_model("resnet20", algorithm, width=4, depth=6)
    mm.harden(first, mm.Sign())
    x, y = torch.randn(6, 3, 10, 10), torch.randint(10, (6,))
    outcomes = []
    for recompute in (False, True):
        model = copy.deepcopy(first)
        torch.manual_seed(1)
        method = mm.TargetPropagation(targets=targets, recompute=recompute)
        value, outputs = method.backward(model, x, y)
        gradients = {name: p.grad for name, p in model.named_parameters()}
        outcomes.append((value, outputs, gradients, dict(model.named_buffers()), torch.rand(1), method.metrics()))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-4, atol=1e-5)


def test_recomputing_needs_layers() -> None:
    with pytest.raises(ValueError, match="a network with stem, layers"):
        mm.TargetPropagation(recompute=True).backward(mm.Sign(), torch.randn(2, 3), torch.zeros(2).long())


class _Two(nn.Module):
    """Thresholds that are read by the output, by another threshold, and by both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(13, 3)
        self.first, self.second = mm.Sign(), mm.Sign()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.a(x))
        return self.c(torch.cat([h, self.second(self.b(h))], 1))


@pytest.mark.parametrize("targets", ["search", "beam"])
def test_searched_targets_lower_the_loss_of_the_layer_above_sample_by_sample(targets: Any) -> None:
    torch.manual_seed(0)
    model, x, y = _Two(), torch.randn(40, 5), torch.randint(3, (40,))
    batches: dict[int, tuple[Tensor, ...]] = {}
    rule = TargetPass.gradient

    def gradient(self: TargetPass, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        gradient_below = rule(self, number, threshold, z, g)
        batches[number] = z, g, *self._targets[number]
        return gradient_below

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TargetPass, "gradient", gradient)
        mm.TargetPropagation(targets=targets, budget=9).backward(model, x, y)

    _, _, second, weight = batches[1]

    def by_hand(h: Tensor, upper: Tensor | None = None) -> Tensor:
        """Loss of each sample above the first threshold, or, given that, above the second."""
        z = model.b(h)
        out = model.c(torch.cat([h, mm.Sign()(z) if upper is None else upper], 1))
        output_loss = F.cross_entropy(out, y, reduction="none") / len(y)
        if upper is None:
            return output_loss
        return output_loss + (weight * (1 - (second * z).tanh())).sum(1)

    with torch.no_grad():
        h = mm.Sign()(model.a(x))
        upper = mm.Sign()(model.b(h))
        _, g, t, _ = batches[0]
        better, better_above = (torch.where(t == 0, activation, t) for t, activation in ((t, h), (second, upper)))
        gain = by_hand(h, upper) - by_hand(better, upper)
        published = by_hand(h, upper) - by_hand(-g.sign(), upper)
        gain_above = by_hand(h, upper) - by_hand(h, better_above)
    moved = (better != h).any(1)
    assert moved.sum() > 20
    assert (gain[moved] > 0).all()
    assert (gain[~moved] == 0).all()
    assert gain.sum() >= published.sum()
    assert ((t == 0) | (t == -g.sign())).all()
    assert (t == 0).any()
    assert gain.sum() > 0
    assert gain_above.sum() > 0


def test_a_beam_that_is_wide_and_long_enough_finds_the_best_moves() -> None:
    torch.manual_seed(0)
    promise, interaction = torch.rand(30, 4), torch.randn(30, 4, 4)

    def loss(moves: Tensor) -> Tensor:
        m = moves.float()
        return -(promise * m).sum(1) + torch.einsum("ni,nij,nj->n", m, interaction, m)

    every = torch.cartesian_prod(*[torch.tensor([False, True])] * 4)
    best = torch.stack([loss(moves.expand(30, 4)) for moves in every]).amin(0)
    greedy, wide = (loss(target_search._beam_search(promise, loss, budget)) for budget in (5, 17))
    assert (wide <= greedy + 1e-6).float().mean() > 0.9
    assert torch.isclose(wide, best).float().mean() > 0.7
    assert (wide <= loss(torch.zeros(30, 4, dtype=torch.bool))).all()


@pytest.mark.parametrize("targets", ["search", "beam"])
def test_a_search_asks_no_more_often_than_it_may_and_moves_nothing_else(targets: Any) -> None:
    model = _Layers()
    mm.harden(model, mm.QuantizedReLU(4))
    x, y = torch.randn(6, 3, 10, 10), torch.randint(10, (6,))
    expected = copy.deepcopy(model)
    torch.manual_seed(0)
    expected(x)
    passes = []
    model[0].register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(0)
    mm.TargetPropagation(targets=targets, budget=5).backward(model, x, y)
    assert 2 + 1 < len(passes) <= 1 + 2 * 5
    assert model[1].num_batches_tracked == expected[1].num_batches_tracked == 1
    torch.testing.assert_close(dict(model.named_buffers()), dict(expected.named_buffers()))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "adaline"])
@pytest.mark.parametrize("threshold", [mm.Sign(), mm.Heaviside(), mm.QuantizedReLU(4), mm.Staircase(7, -2.0, 3.0)])
def test_slopes_in_bfloat16_are_those_of_float64_to_the_last_digits(name: str, threshold: Threshold) -> None:
    z = torch.linspace(-9, 9, 721, dtype=torch.bfloat16)
    for t in (-1.0, 1.0):
        slopes = [
            TargetPass(TargetRules(LOSSES[name], "sign", True, 4), threshold, x, x, F.mse_loss, False).gradient(
                0, threshold, x, torch.full_like(x, t)
            )
            for x in (z, z.double())
        ]
        assert slopes[0].dtype == torch.bfloat16
        if threshold.levels == 2:  # of a staircase the place on the stairs is rounded too
            torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=0.04, atol=1e-6)
        else:
            torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=0.08, atol=0.02)
        assert ((slopes[0] == 0) == (slopes[1].abs() < 1e-30)).all()


@pytest.mark.parametrize("wired", [False, True])
def test_thresholds_that_would_run_again_without_their_targets_are_refused(wired: bool) -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 6), mm.Sign(), nn.Linear(6, 6)) for _ in range(3)]
    body = nn.Sequential(*blocks) if wired else mm.unroll("heavy_ball", blocks, memory="reversible")
    if wired:
        mm.rewire(body, "heavy_ball", memory="reversible")
    batch = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)
    with pytest.raises(ValueError, match="thresholds, .*memory='checkpoint'"):
        mm.TargetPropagation().backward(nn.Sequential(nn.Linear(6, 6), body).train(), *batch)


def test_thresholds_in_an_equilibrium_need_a_gradient_that_is_linear() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), mm.Equilibrium(nn.Sequential(nn.Linear(6, 6), mm.Sign())), nn.Linear(6, 3))
    batch = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)
    mm.TargetPropagation().backward(model, *batch)
    with pytest.raises(ValueError, match="thresholds in an equilibrium.*'soft_hinge'"):
        mm.TargetPropagation(loss="hinge").backward(model, *batch)
