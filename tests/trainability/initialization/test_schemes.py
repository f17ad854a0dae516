"""What each scheme promises, measured."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand.theory.dynamics.response import gains

mean_field = mm.trainability.mean_field


def plain(depth: int, width: int, activation: Callable[[], nn.Module], inputs: int | None = None) -> Any:
    first = nn.Linear(inputs or width, width)
    rest = [module for _ in range(depth - 1) for module in (activation(), nn.Linear(width, width))]
    return nn.Sequential(first, *rest)


class Residual(nn.Module):
    """A residual network, x + W2 relu(W1 x), without the library's classes."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(F.relu(first(x)))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_naive_zero_gives_hidden_layers_no_gradient() -> None:
    model = plain(3, 8, nn.Tanh)
    for p in model.parameters():
        nn.init.zeros_(p)
    model(torch.randn(4, 8)).square().sum().backward()
    assert all(not p.grad.any() for name, p in model.named_parameters() if p.grad is not None)
    mm.initialize(model, "naive(std=0.1, sparsity=0.75)")
    assert float((model[0].weight == 0).float().mean()) == 0.75


def test_variances_are_those_of_the_rules() -> None:
    layer: Any = nn.Linear(300, 700)
    for scheme, variance in {
        "lecun": 1 / 300,
        "xavier": 2 / 1000,
        "xavier(gain=2.0, distribution='uniform')": 8 / 1000,
        "geometric(c=3)": 3 / math.sqrt(300 * 700),
        "kaiming(slope=0)": 2 / 300,
        "kaiming(slope=0.5, mode='fan_out')": 2 / 1.25 / 700,
    }.items():
        (setting, _) = mm.initialize(layer, scheme, generator=seeded()).settings
        assert setting.std_after**2 == pytest.approx(variance, rel=0.02)
        if "uniform" in scheme:
            assert float(layer.weight.detach().abs().max()) == pytest.approx(math.sqrt(3 * variance), rel=1e-3)


@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.LeakyReLU(0.3), nn.Tanh, nn.GELU])
def test_kaiming_keeps_the_second_moment_behind_the_activation_that_is_read(
    activation: Callable[[], nn.Module],
) -> None:
    model: Any = nn.Sequential(nn.Linear(64, 800), activation(), nn.Linear(800, 800))
    x = torch.randn(400, 64)
    mm.initialize(model, "kaiming", batch=x, generator=seeded())
    assert float(model(x).detach().square().mean()) == pytest.approx(1.0, rel=0.1)


def test_orthogonal_networks_have_equal_singular_values() -> None:
    model = plain(10, 32, nn.Identity).double()
    mm.initialize(model, "orthogonal(gain=1.1)")
    values = torch.linalg.svdvals(torch.func.jacrev(model)(torch.randn(32).double()))
    torch.testing.assert_close(values, torch.full((32,), 1.1**10, dtype=torch.float64))


def test_delta_orthogonal_convolutions_are_isometries() -> None:
    layer: Any = nn.Conv2d(6, 10, 3, padding=1, padding_mode="circular", bias=False).double()
    mm.initialize(layer, "delta_orthogonal")
    kernel = torch.fft.fft2(layer.weight.detach(), s=(8, 8)).permute(2, 3, 0, 1)
    assert float((torch.linalg.svdvals(kernel) - 1).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(4, 2, 3), "4 channels in and 2 out"),
        (nn.Conv2d(4, 4, 3, groups=2), "has 2 groups"),
        (nn.Conv2d(4, 4, 2), "even kernel"),
        (nn.Conv2d(4, 4, 3, stride=2), "has stride 2"),
        (nn.ConvTranspose2d(4, 4, 3), "is transposed"),
    ],
)
def test_delta_orthogonal_says_what_it_is_not_defined_for(layer: nn.Module, why: str) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), layer)
    with pytest.raises(ValueError, match=f"1 .*{why}.*exclude=\\('1',\\)"):
        mm.initialize(model, "delta_orthogonal")
    mm.initialize(model, "critical(weights='orthogonal')", activation="tanh")


def test_looks_linear_networks_keep_norms_and_angles_through_fifty_relus() -> None:
    model = plain(51, 16, nn.ReLU)[:-1].append(nn.Linear(16, 8)).double()
    model[0] = nn.Linear(8, 16).double()
    mm.initialize(model, "looks_linear")
    x = torch.randn(5, 8).double()
    torch.testing.assert_close(model(x) @ model(x).T, x @ x.T)


def test_looks_linear_refuses_odd_widths_and_other_activations() -> None:
    with pytest.raises(ValueError, match="odd number of units, 7"):
        mm.initialize(plain(3, 7, nn.ReLU), "looks_linear")
    with pytest.raises(ValueError, match="for relu and leaky_relu"):
        mm.initialize(plain(3, 8, nn.Tanh), "looks_linear")


@pytest.mark.parametrize("weights", ["orthogonal", "gaussian"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SELU])
def test_critical_networks_hold_the_length_they_were_set_to(weights: str, activation: type[nn.Module]) -> None:
    model = plain(10, 500, activation)
    x = 3 * torch.randn(64, 500)
    report = mm.initialize(model, f"critical(weights={weights!r}, q=0.5)", batch=x, generator=seeded())
    assert float(model[0](x).detach().square().mean()) == pytest.approx(0.5, rel=0.1)
    point = mean_field.critical_point(activation(), q=0.5)
    # Where no length is held, it wanders.
    wander = 0.5 if point.kind == "homogeneous" else 0.25
    assert float(model(x).detach().square().mean()) == pytest.approx(0.5, rel=wander)
    assert report.settings[2].gain == point.sigma_w


def test_critical_weights_carry_gradients_where_others_lose_them() -> None:
    ratios = {}
    for scheme in ("auto", "lecun"):
        model = plain(30, 100, nn.Sigmoid)
        x = torch.randn(20, 100)
        mm.initialize(model, scheme, batch=x, generator=seeded())
        h = model[0](x)
        (gradient,) = torch.autograd.grad(model[1:](h), h, torch.randn(20, 100))
        ratios[scheme] = float(gradient.square().mean())
    # 1.7e-38 and 0.26 at width 512 in the facts that the schemes rest on.
    assert ratios["lecun"] < 1e-30
    assert 0.01 < ratios["auto"] < 3


def test_an_activation_that_cannot_be_seen_is_asked_for() -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            return self.second(torch.where(h > 0, h, 0.0))

    assert "name it: activation=" in mm.initialize(ByHand(), "critical", batch=torch.randn(4, 8)).notes[0]


def test_an_unstable_point_that_is_asked_for_is_said_to_be_so() -> None:
    report = mm.initialize(plain(4, 8, nn.GELU), "critical(q=1.0)")
    assert any("lengths leave q = 1" in note for note in report.notes)
    assert "half_stable" in mm.initialize(plain(4, 8, nn.GELU), "critical").notes[0]
    with pytest.raises(ValueError, match="Softplus.*no critical point"):
        mm.initialize(plain(4, 8, nn.Softplus), "critical")


def test_depth_keeps_the_variance_below_e_whatever_the_depth() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 200)
    for depth in (4, 64):
        model: Any = Residual(depth, 200)
        report = mm.initialize(model, "auto", batch=x, generator=seeded())
        assert report.scheme == "auto: depth"
        assert 1.8 < float(model.features(x).detach().square().mean()) < 3.2


@pytest.mark.parametrize(
    "algorithm", ["heavy_ball(momentum=0.9)", "fista", "gradient_descent", "nesterov_y(momentum=0.7)"]
)
def test_branches_of_our_networks_are_scaled_by_the_gains_of_the_algorithm(algorithm: str) -> None:
    torch.manual_seed(0)
    model: Any = mm.create_model("mlp", algorithm, in_channels=100, width=100, hidden=100, depth=16)
    mm.initialize(model, "depth", generator=seeded())
    (stage,) = model.stages
    expected = 1 / math.sqrt(float((gains(model.algorithm, 16) ** 2).sum()))
    last = stage.layers[3].block[2].weight.detach()
    assert float(last.std()) == pytest.approx(expected * math.sqrt(2 / 100), rel=0.05)
    x = torch.randn(100, 100)
    # The branches together add about as much as there was, whatever the algorithm's own growth.
    assert 1.5 < float(stage(x).detach().square().mean()) < 6


def test_depth_scales_the_last_normalization_where_there_is_one() -> None:
    model: Any = mm.create_model("resnet20", num_classes=4)
    mm.initialize(model, "depth")
    stage = model.stages[0]
    gamma = stage.layers[0].block.branch[4].weight
    torch.testing.assert_close(gamma, torch.full_like(gamma, 7**-0.5))


@pytest.mark.parametrize("scheme", ["skipinit", "rezero"])
def test_silent_branches_make_the_identity_and_learn_their_factor_first(scheme: str) -> None:
    model: Any = Residual(5, 16)
    x = torch.randn(8, 16)
    report = mm.initialize(model, scheme, batch=x)
    torch.testing.assert_close(model.features(x), model.stem(x))
    model(x).square().sum().backward()
    for first, second in zip(model.first, model.second, strict=True):
        assert not first.weight.grad.any()
        assert not second.parametrizations.weight.original.grad.any()
        assert second.parametrizations.weight[0].factor.grad.abs() > 0
        assert second.parametrizations.weight[0].factor is second.parametrizations.bias[0].factor
    assert len(report.notes) == 5
    # A second time over: the branches open again, and no second factor appears.
    names = set(model.state_dict())
    mm.initialize(model, scheme, batch=x)
    torch.testing.assert_close(model.features(x), model.stem(x))
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(("name", "channels"), [("resnet20", 16), ("convnext_atto", 40)])
def test_skipinit_uses_the_factors_that_are_there(name: str, channels: int) -> None:
    model: Any = mm.create_model(name, num_classes=4)
    names = set(model.state_dict())
    mm.initialize(model, "skipinit")
    assert set(model.state_dict()) == names
    x = torch.rand(2, channels, 8, 8)
    torch.testing.assert_close(model.stages[0](x), x)


def test_fixup_is_what_it_says() -> None:
    model: Any = Residual(9, 64)
    x = torch.randn(8, 64)
    mm.initialize(model, "fixup", batch=x, generator=seeded())
    torch.testing.assert_close(model.features(x), model.stem(x))
    assert not model(x).detach().any()
    # m = 2: L^(-1/2) of variance 1 / fan_in, as the branch reads the sum.
    assert float(model.first[0].weight.detach().std()) == pytest.approx(9**-0.5 * 64**-0.5, rel=0.05)
    gradients = ()
    for _ in range(3):
        loss = F.cross_entropy(model(x), torch.arange(8) % 4)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= 0.5 * g
    assert all(g is not None and g.any() for g in gradients)


def test_fixup_has_its_scalar_biases() -> None:
    """Against the block of the paper, written down: scalars before and after each layer, a factor before the sum."""
    torch.manual_seed(0)
    model: Any = mm.create_model("preact_resnet20(width=4, depth=3)", num_classes=4)
    mm.normalize(model, "none")
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):  # once more changes nothing but the numbers drawn
        mm.initialize(model, "fixup", batch=x)
    names = dict(model.named_parameters())
    block = "body.0.layers.0.block"
    first, second = f"{block}.2", f"{block}.5"
    scalars = {name: p for name, p in names.items() if name.startswith(block) and p.numel() == 1}
    places = [f"{layer}.{place}.bias" for layer in (first, second) for place in ("before", "after")]
    assert sorted(scalars) == sorted([*places, f"{second}.parametrizations.weight.0.factor"])
    with torch.no_grad():
        for i, p in enumerate(scalars.values()):
            p.fill_(0.3 + 0.1 * i)
        names[f"{second}.parametrizations.weight.original"].normal_()
    h = torch.randn(2, 4, 8, 8)
    a1, b1, a2, b2 = (scalars[place] for place in places)
    w1, w2 = names[f"{first}.weight"], names[f"{second}.parametrizations.weight.original"]
    factor = scalars[f"{second}.parametrizations.weight.0.factor"]
    inner = F.conv2d(F.relu(h) + a1, w1, padding=1) + b1
    expected = factor * F.conv2d(F.relu(inner) + a2, w2, padding=1) + b2
    torch.testing.assert_close(model.get_submodule(block)(h), expected)
    again = copy.deepcopy(model)
    torch.testing.assert_close(again(x), model(x))
    assert len(names) == len(dict(again.named_parameters()))


def test_a_refused_fixup_leaves_no_scalar_behind() -> None:
    model: Any = Residual(3, 8)
    names = set(model.state_dict())
    model.head.weight.data[0] = math.nan
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"head\.weight would be left with values that are not finite"):
        mm.initialize(model, "fixup", batch=torch.randn(4, 8))
    assert set(model.state_dict()) == names
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_fixup_refuses_normalization_and_branches_of_one_layer() -> None:
    with pytest.raises(ValueError, match="without normalization"):
        mm.initialize(mm.create_model("resnet20"), "fixup")
    model: Any = mm.unroll("gradient_descent", [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2)])
    with pytest.raises(ValueError, match="two layers or more"):
        mm.initialize(model, "fixup")
    with pytest.raises(ValueError, match=r"none was found in Sequential.*branches="):
        mm.initialize(plain(3, 4, nn.ReLU), "depth", batch=torch.ones(1, 4))


def test_branches_may_be_declared() -> None:
    model: Any = Residual(3, 8)
    report = mm.initialize(model, "depth", activation="relu", branches=("second.0", "second.1", "second.2"))
    assert report.notes == (f"3 branches, each times {3**-0.5:.4g}.",)
    with pytest.raises(ValueError, match=r"'second.7'\. Did you mean 'second"):
        mm.initialize(model, "depth", activation="relu", branches=("second.7",))


def test_recurrent_gates_are_orthogonal_and_the_forget_gate_open() -> None:
    model: Any = nn.LSTM(3, 8, num_layers=2)
    mm.initialize(model, "recurrent")
    for gate in model.weight_hh_l1.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8))
    bias = (model.bias_ih_l0 + model.bias_hh_l0).detach()
    assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    mm.initialize(model, "recurrent(timescale=50)")
    inputs, forget, *_ = (model.bias_ih_l0 + model.bias_hh_l0).detach().chunk(4)
    torch.testing.assert_close(inputs, -forget)
    assert 0 <= float(forget.min()) <= float(forget.max()) <= math.log(49)
    cell: Any = nn.GRUCell(3, 8)
    mm.initialize(cell, "recurrent(timescale=50)")
    assert cell.bias_ih[8:16].min() > 0
    with pytest.raises(ValueError, match="the model has Linear"):
        mm.initialize(nn.Linear(2, 2), "recurrent")


def test_metainit_lowers_the_quotient_and_sets_norms_alone() -> None:
    torch.manual_seed(0)
    model = plain(4, 16, nn.Tanh)
    mm.initialize(model, "kaiming(slope=0)", generator=seeded())
    before = [p.detach().clone() for p in model.parameters()]
    x, y = torch.randn(32, 16), torch.randint(0, 16, (32,))
    report = mm.initialize(model, "metainit(steps=20)", batch=x, target=y, loss=F.cross_entropy)
    first, best = (float(word) for word in report.notes[0].split() if word[0].isdigit() and "." in word)
    assert best < first
    for old, new in zip(before, model.parameters(), strict=True):
        if old.ndim == 2:
            cosine = F.cosine_similarity(old.flatten(), new.detach().flatten(), dim=0)
            assert float(cosine) == pytest.approx(1.0, abs=1e-5)
        else:
            assert torch.equal(old, new)
    mm.initialize(model, "naive(std=1e-4)")
    with pytest.raises(ValueError, match="set the scale first"):
        mm.initialize(model, "metainit", batch=x, target=y, loss=F.cross_entropy)
    with pytest.raises(ValueError, match="give loss="):
        mm.initialize(model, "metainit", batch=x)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("scale", [0.6, 3.0])
def test_gradinit_makes_the_first_step_count(optimizer: str, scale: float) -> None:
    """A step from the learned factors ends at a lower loss, of the whole batch, than one from the given weights."""
    torch.manual_seed(1)
    model = plain(6, 32, nn.ReLU)
    mm.initialize(model, "kaiming", generator=seeded())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(scale)
    x, y = torch.randn(60, 32), torch.randint(0, 32, (60,))

    def after_a_step(net: nn.Module) -> tuple[float, float]:
        net = copy.deepcopy(net)
        parameters = list(net.parameters())
        slopes = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        size = nn.utils.get_total_norm(slopes, 1 if optimizer == "adam" else 2)
        for p, g in zip(parameters, slopes, strict=True):
            p.data -= 1e-3 * g.sign() if optimizer == "adam" else 0.1 * g / size
        return float(size), float(F.cross_entropy(net(x), y).detach())

    before = after_a_step(model)
    arguments = {"batch": x, "target": y, "loss": F.cross_entropy}
    report = mm.initialize(model, f"gradinit(optimizer='{optimizer}', steps=250)", **arguments, generator=seeded())
    size, loss = after_a_step(model)
    assert loss < before[1]
    assert size < 1.5 * (100 if optimizer == "adam" else 1)
    assert f"{size:.4g} after" in report.notes[0]
    assert f"{loss:.4g} after" in report.notes[0]


def test_gradinit_refuses_what_it_cannot_follow() -> None:
    model, x, y = plain(4, 16, nn.ReLU), torch.randn(20, 16), torch.randint(0, 16, (20,))
    with pytest.raises(ValueError, match="give loss="):
        mm.initialize(model, "gradinit", batch=x)
    with pytest.raises(ValueError, match="gradinit.*'sdg'.*sgd"):
        mm.initialize(model, "gradinit(optimizer='sdg')", batch=x, target=y, loss=F.cross_entropy)
    for p in model.parameters():
        nn.init.zeros_(p)
    with pytest.raises(ValueError, match="there is none to be set"):
        mm.initialize(model, "gradinit", batch=x, target=y, loss=F.cross_entropy)
    report = mm.initialize(
        plain(4, 16, nn.ReLU), "gradinit(steps=1, gamma=1e-9)", batch=x, target=y, loss=F.cross_entropy
    )
    assert "did not converge" in report.notes[1]


def test_tfixup_scales_what_reaches_the_sum() -> None:
    torch.manual_seed(0)
    model: Any = nn.Transformer(64, 4, 3, 2, 256, batch_first=True)
    with pytest.raises(ValueError, match=r"mm\.normalize\(model, 'none'\)"):
        mm.initialize(model, "tfixup")
    mm.normalize(model, "none")
    words = nn.Embedding(500, 64, padding_idx=0)
    mm.initialize(nn.ModuleList([words, model]), "tfixup", generator=seeded())
    xavier = math.sqrt(2 / 128)
    for layers, factor in ((model.encoder.layers, 0.67 * 3**-0.25), (model.decoder.layers, 18**-0.25)):
        for layer in layers:
            for attention in [layer.self_attn, *([layer.multihead_attn] if factor == 18**-0.25 else [])]:
                query, key, value = attention.in_proj_weight.detach().chunk(3)
                for weight, expected in ((query, 0.5**0.5), (key, 0.5**0.5), (value, factor)):
                    assert float(weight.std()) == pytest.approx(expected * xavier, rel=0.05)
                assert float(attention.out_proj.weight.detach().std()) == pytest.approx(factor * xavier, rel=0.05)
            assert float(layer.linear1.weight.detach().std()) == pytest.approx(factor * math.sqrt(2 / 320), rel=0.05)
    assert float(words.weight[1:].detach().std()) == pytest.approx(18**-0.25 / 8, rel=0.05)
    assert not words.weight[0].any()
    with pytest.raises(ValueError, match="the model has none"):
        mm.initialize(nn.Linear(2, 2), "tfixup")


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        (plain(3, 64, nn.ReLU), "auto: kaiming"),
        (plain(3, 8, nn.GELU), "auto: critical"),
        (plain(3, 8, nn.Tanh), "auto: critical"),
        (plain(3, 8, nn.Sigmoid), "auto: sigmoid_recentred"),
        (nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8)), "auto: kaiming"),
        (mm.create_model("mlp", in_channels=8), "auto: depth"),
        (nn.LSTM(8, 8), "auto: recurrent"),
    ],
)
def test_auto_chooses_by_the_structure(model: nn.Module, chosen: str) -> None:
    assert mm.initialize(model).scheme == chosen


def test_auto_warns_of_relu_networks_too_deep_for_their_width() -> None:
    assert "fluctuate" in mm.initialize(plain(20, 16, nn.ReLU)).notes[0]
    assert not mm.initialize(plain(3, 64, nn.ReLU)).notes


def test_deepnorm_is_the_normalized_sum_of_a_longer_skip_and_a_smaller_branch() -> None:
    def encoder() -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    model, plain = encoder(), encoder()
    for _ in range(2):  # once more changes nothing but the numbers drawn
        mm.initialize(model, "deepnorm")
    held = {name.replace("parametrizations.", "").removesuffix(".original"): p for name, p in model.named_parameters()}
    plain.load_state_dict(held)
    alpha, beta = 6**0.25, 24**-0.25
    x = expected = torch.randn(2, 5, 64)
    for layer in plain.layers:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        q, k, v = layer.self_attn.in_proj_weight.split(64)
        for weight, gain in [(q, 1), (k, 1), (v, beta), (layer.self_attn.out_proj.weight, beta)]:
            assert float(weight.detach().std()) == pytest.approx(gain / 8, rel=0.05)
        assert float(layer.linear2.weight.detach().std()) == pytest.approx(beta / math.sqrt(96), rel=0.05)
        expected = layer.norm1(alpha * expected + layer.self_attn(expected, expected, expected)[0])
        expected = layer.norm2(alpha * expected + layer.linear2(F.relu(layer.linear1(expected))))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.eval()(x), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="does not normalize. Use 'tfixup'"):
        mm.initialize(mm.normalize(encoder(), "none"), "deepnorm")
    with pytest.raises(ValueError, match="normalizes first"):
        mm.initialize(nn.TransformerEncoderLayer(8, 2, norm_first=True), "deepnorm")
    with pytest.raises(ValueError, match=r"layers\.1\.linear2 is excluded"):
        mm.initialize(encoder(), "deepnorm", exclude=["layers.1.linear2"])


def test_deepnorm_of_an_encoder_with_a_decoder() -> None:
    torch.manual_seed(0)
    model: Any = nn.Transformer(64, 4, 3, 2, 128, dropout=0.0, batch_first=True)
    plain: Any = nn.Transformer(64, 4, 3, 2, 128, dropout=0.0, batch_first=True)
    report = mm.initialize(model, "deepnorm")
    held = {name.replace("parametrizations.", "").removesuffix(".original"): p for name, p in model.named_parameters()}
    plain.load_state_dict(held)
    # N = 3 encoder layers, M = 2 decoder layers, as in figure 2 of the paper.
    n4m = 3**4 * 2
    alphas, betas = (0.81 * n4m ** (1 / 16), 6**0.25), (0.87 * n4m ** (-1 / 16), 24**-0.25)
    for alpha, beta, note in zip(alphas, betas, report.notes, strict=True):
        assert f"alpha {alpha:.4g}, beta {beta:.4g}" in note
    source, x = torch.randn(2, 5, 64), torch.randn(2, 4, 64)
    memory = source
    for layer in plain.encoder.layers:
        memory = layer.norm1(alphas[0] * memory + layer.self_attn(memory, memory, memory)[0])
        memory = layer.norm2(alphas[0] * memory + layer.linear2(F.relu(layer.linear1(memory))))
    memory, expected = plain.encoder.norm(memory), x
    for layer in plain.decoder.layers:
        for attention, beta in ((layer.self_attn, betas[1]), (layer.multihead_attn, betas[1])):
            q, k, v = attention.in_proj_weight.split(64)
            for weight, gain in [(q, 1), (k, 1), (v, beta), (attention.out_proj.weight, beta)]:
                assert float(weight.detach().std()) == pytest.approx(gain / 8, rel=0.05)
        expected = layer.norm1(alphas[1] * expected + layer.self_attn(expected, expected, expected)[0])
        expected = layer.norm2(alphas[1] * expected + layer.multihead_attn(expected, memory, memory)[0])
        expected = layer.norm3(alphas[1] * expected + layer.linear2(F.relu(layer.linear1(expected))))
    linear: Any = plain.encoder.layers[0].linear1
    assert float(linear.weight.detach().std()) == pytest.approx(betas[0] / math.sqrt(96), rel=0.05)
    torch.testing.assert_close(model(source, x), plain.decoder.norm(expected), rtol=1e-4, atol=1e-4)


class _Once(nn.Module):
    """The block of an equilibrium, called once."""

    def __init__(self, equilibrium: mm.Equilibrium) -> None:
        super().__init__()
        self.block = equilibrium.block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, x)


@pytest.mark.parametrize("name", sorted(set(mm.list_schemes()) - {"lsuv", "gradinit", "metainit"}))
def test_what_a_solver_calls_many_times_is_set_as_for_one_call(name: str) -> None:
    def rules(make: Callable[[mm.Equilibrium], nn.Module]) -> Any:
        torch.manual_seed(0)
        layer = mm.Equilibrium(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)))
        model = nn.Sequential(nn.Linear(8, 8), make(layer), nn.Linear(8, 3))
        try:
            report = mm.initialize(model, name, batch=torch.randn(16, 8))
        except ValueError as error:
            return str(error)
        return [(s.name, s.rule, s.std_after) for s in report.settings], report.notes

    assert rules(lambda layer: layer) == rules(_Once)


def test_lsuv_refuses_what_a_solver_calls() -> None:
    model = nn.Sequential(nn.Linear(8, 8), mm.Equilibrium(nn.Linear(8, 8)), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"solver runs 1\.block\.body until"):
        mm.initialize(model, "lsuv", batch=torch.randn(16, 8))
    mm.initialize(model, "lsuv", batch=torch.randn(16, 8), exclude="1.*")
