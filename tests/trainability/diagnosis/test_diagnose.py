import copy
import json
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import broken
import minimand as mm
import setup_a
from minimand._support.torch.torchvision import require_torchvision
from minimand.data.samples import Arrays
from minimand.data.sets.fashion_mnist import DEBIAN
from minimand.trainability.measure.reading import NO_GRADIENT, number, numbers
from setup_a import chain
from sweeps import thin


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Standardized images (n, 64) with their classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)  # pyright: ignore[reportAttributeAccessIssue]
    return (x - x.mean()) / x.std(), torch.tensor(digits.target)  # pyright: ignore[reportAttributeAccessIssue]


# One network of each verdict; all have a hundred layers.
_JUDGED = ("tanh orthogonal, ordered", "tanh, chaotic", "ReLU, He", "tanh Gaussian, critical")


@pytest.mark.parametrize("name", thin(setup_a.NETWORKS, _JUDGED))
def test_every_network_of_setup_a_is_judged_at_initialization(name: str, digits: Any) -> None:
    make, code = setup_a.NETWORKS[name]
    x = digits[0][:64]
    report = mm.diagnose(make(x), x)
    assert report.verdict.code == code, str(report.verdict)
    assert (report.verdict.action is None) == (code in ("ok", "structural_zero"))


@pytest.mark.parametrize("name", broken.NETWORKS)
def test_what_is_broken_is_named_and_repaired(name: str, digits: Any) -> None:
    make, change, code, layer = broken.NETWORKS[name]
    x = change(digits[0][:64])
    model = make()
    verdict = mm.diagnose(model, x).verdict
    assert verdict.code == code, str(verdict)
    assert layer in (None, verdict.layer)
    if verdict.remedy is not None and verdict.remedy.calls:
        verdict.remedy.apply(model, x)
        assert mm.diagnose(model, x).verdict.code == "ok"


@pytest.mark.parametrize(
    "name",
    thin(
        [
            "wrong gain",
            "missing skip",
            "tied layer",
            "dead ReLU",
            "frozen layer",
            "NaN weight",
            "saturated sigmoid",
            "exploding attention",
            "too deep batch norm",
        ],
        keep=["dead ReLU", "frozen layer", "NaN weight", "saturated sigmoid"],
    ),
)
def test_the_remedy_works_in_training(name: str, digits: Any) -> None:
    make, _, _, _ = broken.NETWORKS[name]
    x, y = digits
    model = make()
    before = _accuracy(copy.deepcopy(model), x, y)
    remedy = mm.diagnose(model, x[:64]).verdict.remedy
    assert remedy is not None
    remedy.apply(model, x[:64])
    after = _accuracy(model, x, y)
    # A layer that runs 40 times is hard to train at any scale.
    assert after > max(0.7 if name == "tied layer" else 0.8, before)


def test_remedies_that_are_advice_work_in_training(digits: Any) -> None:
    x, y = digits
    change = broken.NETWORKS["one constant input channel"][1]
    shifted = change(x)
    standardized = (shifted - shifted.mean(0)) / shifted.std(0).clamp_min(1e-6)
    model = chain(nn.ReLU, 2.0, depth=4)
    assert mm.diagnose(model, standardized[:64]).verdict.code == "ok"
    assert _accuracy(copy.deepcopy(model), standardized, y) > 0.9 > _accuracy(model, shifted, y)

    class Through(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h + (torch.sign(h) - h).detach()

    model = broken.sign_after_relu()
    assert isinstance(model, nn.Sequential)
    stuck = copy.deepcopy(model[:3].state_dict())
    _accuracy(model, x, y)
    assert all(torch.equal(p, stuck[name]) for name, p in model[:3].state_dict().items())
    model[4] = Through()
    assert mm.diagnose(model, x[:64]).verdict.code == "ok"
    assert _accuracy(model, x, y) > 0.7
    assert not any(torch.equal(p, stuck[name]) for name, p in model[:3].state_dict().items())


@pytest.mark.parametrize("depth", thin([10, 30], [10]))
def test_hard_thresholds_are_repaired_as_deep_as_theory_lets_them_be(depth: int, digits: Any) -> None:
    """Straight-through gradients of signs have a critical point; what tells samples apart lasts 13 layers."""
    x, y = digits
    torch.manual_seed(0)
    model = nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(64, 64), nn.ReLU())], nn.Linear(64, 10))
    mm.harden(model, mm.Sign())
    verdict = mm.diagnose(model, x[:64]).verdict
    assert verdict.code == "vanishing"
    remedy = verdict.remedy
    assert remedy is not None
    if depth == 30:
        assert str(remedy) == "add skips: sign carries what tells samples apart over about 13 layers"
        mm.initialize(model, "critical", batch=x[:64])
        assert _accuracy(model, x, y, 150) < 0.3
        return
    before = _accuracy(copy.deepcopy(model), x, y, 150, 0.05)
    remedy.apply(model, x[:64])
    assert mm.diagnose(model, x[:64]).verdict.code == "ok"
    assert _accuracy(model, x, y, 150, 0.05) > max(0.75, before)


def test_where_no_weights_help_the_remedy_is_advice_that_works(digits: Any) -> None:
    x, y = digits
    torch.manual_seed(0)

    def net(*between: Callable[[], nn.Module]) -> nn.Module:
        parts = [part for _ in range(12) for part in (nn.Linear(64, 64), *(make() for make in between), nn.Softplus())]
        return nn.Sequential(*parts, nn.Linear(64, 10))

    verdict = mm.diagnose(net(), x[:64]).verdict
    assert verdict.code == "vanishing"
    assert "normalize before each softplus" in str(verdict.action)
    assert verdict.remedy is not None
    with pytest.raises(ValueError, match="expected of you: normalize"):
        verdict.remedy.apply(net(), x[:64])
    assert mm.diagnose(net(lambda: nn.BatchNorm1d(64)), x[:64]).verdict.code == "ok"
    assert _accuracy(net(lambda: nn.BatchNorm1d(64)), x, y) > 0.7 > _accuracy(net(), x, y)


def test_zeros_that_are_meant_need_no_remedy(digits: Any) -> None:
    assert _accuracy(broken.fixup(), *digits) > 0.9


_OTHERS = ["resnet18", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5"]


@pytest.mark.parametrize("name", thin(_OTHERS, ["resnet18"]))
def test_models_of_torchvision_that_train_are_sound(name: str) -> None:
    torch.manual_seed(0)
    torchvision = require_torchvision("by this test")
    images = nn.functional.interpolate(torch.randn(16, 3, 4, 4), (64, 64), mode="bicubic")
    verdict = mm.diagnose(getattr(torchvision.models, name)(), images, theory=False).verdict
    assert verdict.code in ("ok", "structural_zero"), str(verdict)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.ELU])
def test_few_layers_are_sound_as_torch_starts_them(activation: type[nn.Module], digits: Any) -> None:
    """Biases make samples alike in them, which training overcomes."""
    torch.manual_seed(0)
    parts = [part for _ in range(5) for part in (nn.Linear(64, 64), activation())]
    verdict = mm.diagnose(nn.Sequential(*parts, nn.Linear(64, 10)), digits[0][:64]).verdict
    assert verdict.code == "ok", str(verdict)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("scheme", "low", "high"), [("critical", 0.75, 1.0), ("ordered", 0.0, 0.15)])
def test_a_hundred_layers_train_at_the_edge_of_chaos_and_not_in_order(scheme: str, low: float, high: float) -> None:
    """250 steps of SGD on Fashion-MNIST, 100 layers of 100 units, as measured for the sources of this project."""
    data = mm.load_data("fashion_mnist")
    torch.manual_seed(0)
    model = setup_a.chain(nn.Tanh, 0.8, inputs=784)
    train, test = cast(Arrays, data.train), cast(Arrays, data.test)
    x = data.prepare(train.inputs[:16000]).flatten(1)
    if scheme == "critical":
        mm.initialize(model, "critical", batch=x[:64])
    held_out = Arrays(data.prepare(test.inputs[:2000]).flatten(1), test.targets[:2000])
    pair = (Arrays(x, train.targets[:16000]), held_out)
    recipe = mm.Recipe(1, 64, mm.SGD(1e-3, weight_decay=0.0), mm.StepDecay(at=()))
    accuracy = mm.fit(model, pair, recipe=recipe).test_accuracy
    assert accuracy is not None
    assert low <= accuracy <= high


@pytest.mark.parametrize(("variance", "bias", "depth", "code"), [(1.5, 6.0, 4, "ok"), (2.0, 0.0, 40, "collapsed")])
def test_samples_may_be_more_alike_after_few_layers(
    variance: float, bias: float, depth: int, code: str, digits: Any
) -> None:
    """Both leave about 0.04 of what tells samples apart; the short network trains, the deep one does not."""
    x, y = digits
    torch.manual_seed(5 if depth == 4 else 0)
    model = chain(nn.ReLU, variance, bias, depth=depth)
    report = mm.diagnose(model, x[:64])
    first, last = report.layers[0], report.layers[-1]
    assert 0.02 < (1 - number(last.read_cosine, 0.0)) / (1 - number(first.read_cosine, 0.0)) < 1 / 15
    assert report.verdict.code == code, str(report.verdict)
    assert (_accuracy(model, x, y) > 0.9) == (code == "ok")


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, steps: int = 80, lr: float = 0.01) -> float:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return float((model.eval()(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize(("activation", "variance"), [(nn.Tanh, 2.25), (nn.Tanh, 0.8), (nn.ReLU, 2.0)])
def test_chi_is_what_mean_field_theory_says(activation: type[nn.Module], variance: float) -> None:
    model = chain(activation, variance, 0.05 * (variance == 0.8), width=256, depth=40)
    report = mm.diagnose(model, torch.randn(16, 64), probes=4)
    stats = report.layers[10:-1]
    measured, expected = (
        math.exp(sum(map(math.log, v)) / len(stats))
        for v in (numbers(s.chi for s in stats), numbers(s.expected_chi for s in stats))
    )
    assert measured == pytest.approx(expected, rel=0.03)
    if activation is nn.Tanh:
        chi = {2.25: 1.139323, 0.8: 0.646839}[variance]
        assert expected == pytest.approx(chi, rel=0.03)
        assert stats[-1].second_moment == pytest.approx(stats[-1].expected_second_moment, rel=0.2)


def test_batch_norm_makes_gradients_explode_by_the_known_factor() -> None:
    model = chain(nn.ReLU, 2.0, norm=nn.BatchNorm1d, width=256, depth=30)
    stats = mm.diagnose(model, torch.randn(256, 64)).layers[5:-1]
    mean_log = sum(map(math.log, numbers(s.chi for s in stats))) / len(stats)
    assert math.exp(mean_log) == pytest.approx(math.pi / (math.pi - 1), abs=0.05)


@pytest.mark.parametrize(("depth", "severities"), [(20, ("none", "warning")), (70, ("fatal",))])
def test_plain_layers_with_batch_normalization_are_judged_by_their_depth(
    depth: int, severities: tuple[str, ...], digits: Any
) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model = chain(nn.ReLU, 2.0, norm=nn.BatchNorm1d, depth=depth)
        verdict = mm.diagnose(model, digits[0][:64], theory=False).verdict
        assert verdict.severity in severities, str(verdict)


def test_statistics_are_those_of_a_pass_by_hand(digits: Any) -> None:
    """A net of two layers: everything can be written down."""
    model = nn.Sequential(nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 10)).double()
    x, y = digits[0][:20].double(), digits[1][:20]
    first, last = mm.diagnose(model, x, target=y).layers
    h = model[0](x).detach()
    assert first.mean == pytest.approx(float(h.mean()))
    assert first.second_moment == pytest.approx(float(h.square().mean()))
    assert first.batch_std == pytest.approx(float(h.var(0, correction=0).mean().sqrt()))
    cosines = nn.functional.cosine_similarity(h[:, None], h[None], dim=-1)
    assert first.cosine == pytest.approx(float(cosines[~torch.eye(20, dtype=torch.bool)].mean()))
    a = h.relu()
    assert first.zero == pytest.approx(float((a == 0).double().mean()))
    assert first.dead == float((a == 0).all(0).double().mean())
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model[2].parameters()))
    assert last.weight_gradient == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
    assert first.activation == "relu"
    assert (last.activation, first.shape) == (None, (20, 7))


class Tokens(nn.Module):
    """Token ids in, a mapping out; attention, a recurrent layer, dropout and an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.3)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.norm = nn.BatchNorm1d(16)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(16, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        x, _ = self.recurrent(self.encoder(self.embed(ids), src_key_padding_mask=mask))
        return {"logits": self.head(self.act(self.norm(x[:, -1])))}


def _state(model: nn.Module) -> list[Any]:
    tensors = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    return [tensors, [m.training for m in model.modules()], hooks, flags, torch.get_rng_state()]


def _same(before: list[Any], after: list[Any]) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    return tensors and before[1:4] == after[1:4] and torch.equal(before[4], after[4])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_any_input_and_nothing_is_left_behind(training: bool, fails: bool) -> None:
    model = Tokens().train(training)
    nn.init.zeros_(model.head.weight)  # a structural zero, so that tensors are moved and put back
    nn.init.zeros_(model.encoder.layers[0].linear2.weight)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    model.embed.requires_grad_(False)
    model.head.bias.grad = torch.full((3,), 5.0)
    batch = {"ids": torch.randint(50, (6, 9)), "mask": torch.zeros(6, 9, dtype=torch.bool)}
    before = _state(model)
    if fails:
        batch["ids"][0, 0] = 50
        with pytest.raises(ValueError, match=r"Tokens fails on a batch of shape \(6, 9\)"):
            mm.diagnose(model, batch)
    else:
        report = mm.diagnose(model, batch, loss=lambda out: out["logits"].square().mean())
        assert report.verdict.code in ("ok", "structural_zero")
        assert report.samples == 6
        assert mm.diagnose(model, (batch["ids"],)).verdict.code == report.verdict.code
    assert _same(before, _state(model))
    assert [p.grad is not None for p in model.parameters()].count(True) == 1
    assert torch.equal(model.head.bias.grad, torch.full((3,), 5.0))


class Equilibrium(nn.Module):
    """z = tanh(W z + U x) by iteration; the gradient by the implicit function theorem, in a hook of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        nn.init.orthogonal_(self.inner.weight, 0.5)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(z) + self.outer(x))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(30):
                z = self.step(z, x)
        z = self.step(z, x)
        if z.requires_grad:
            start = z.detach().requires_grad_()
            after = self.step(start, x)

            def solve(gradient: Tensor) -> Tensor:
                plateau = gradient
                for _ in range(30):
                    plateau = torch.autograd.grad(after, start, plateau, retain_graph=True)[0] + gradient
                return plateau

            z.register_hook(solve)
        return self.head(z)


def test_equilibrium_networks_are_measured_at_their_fixed_point(digits: Any) -> None:
    model = Equilibrium()
    before = _state(model)
    report = mm.diagnose(model, digits[0][:32])
    assert report.verdict.code == "ok", str(report.verdict)
    settled = [stat for stat in report.layers if stat.name == "inner"]
    assert settled[25].second_moment == pytest.approx(settled[30].second_moment, rel=1e-4)
    assert number(settled[30].gradient, 0.0) > 0
    assert settled[25].gradient is NO_GRADIENT
    assert _same(before, _state(model))


def test_zeros_that_training_never_leaves_are_dead() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    for p in model.parameters():
        nn.init.zeros_(p)
    assert mm.diagnose(model, torch.randn(16, 8)).verdict.code == "dead"
    assert not any(p.any() for p in model.parameters())


def test_narrow_deep_rectifiers_fluctuate() -> None:
    codes = {mm.diagnose(chain(nn.ReLU, 2.0, width=6, depth=9), torch.randn(64, 64)).verdict.code for _ in range(5)}
    assert "fluctuation" in codes
    assert "ok" not in codes


def test_one_layer_of_wrong_scale_is_found_among_many() -> None:
    model = chain(nn.Tanh, 1.05, 1e-3, depth=30)
    model[20].weight.data *= 1e-3  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]
    verdict = mm.diagnose(model, torch.randn(64, 64)).verdict
    assert (verdict.code, verdict.layer) == ("vanishing", "20")


_OURS = ["resnet20", "preact_resnet20", "hb_net20", "wrn16_4", "densenet40_12"]


@pytest.mark.parametrize("name", thin(_OURS, ["hb_net20"]))
def test_the_models_of_this_package_are_sound(name: str) -> None:
    images = nn.functional.interpolate(torch.randn(8, 3, 4, 4), (32, 32), mode="bicubic")
    assert mm.diagnose(mm.create_model(name), images).verdict.code in ("ok", "structural_zero")


def test_the_report_can_be_read_kept_and_drawn() -> None:
    report = mm.diagnose(chain(nn.Tanh, 2.25, depth=60), torch.randn(8, 64))
    text = str(report)
    assert text.count("\n") < 40
    assert "24 of 60 layers" in text
    assert 'mm.initialize(model, "critical", batch=x)' in " ".join(text.split())
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["verdict"]["code"] == "exploding"
    assert len(record["layers"]) == 60
    signal, _, gradient = report.plot().axes
    assert [line.get_label() for line in signal.lines] == ["measured", "mean field"]
    assert gradient.lines[1].get_ydata()[1] == pytest.approx(report.layers[1].read_gradient, rel=9)  # pyright: ignore[reportIndexIssue]


def test_jacobian_and_curvature_on_request() -> None:
    model = nn.Sequential(nn.Linear(12, 12, bias=False), nn.Dropout(0.5), nn.Linear(12, 12, bias=False))
    for linear in (model[0], model[2]):
        nn.init.orthogonal_(linear.weight, 1.5)  # pyright: ignore[reportArgumentType]
    x = torch.randn(5, 12)
    report = mm.diagnose(model, x, jacobian=True, curvature=True)
    assert report.jacobian == pytest.approx([2.25] * 12, rel=1e-5)
    assert report.curvature is not None
    # <g_i, g_j> of a two-layer linear network, along a direction u of the output: both factors are orthogonal.
    expected = torch.linalg.eigvalsh(2 * 1.5**2 * x.double() @ x.double().T)
    assert report.curvature.kernel_largest == pytest.approx(float(expected[-1]), rel=1e-4)
    assert "mean square 5.06" in str(report)
    with pytest.raises(ValueError, match="curvature=True needs a batch that is one tensor; it is tuple"):
        mm.diagnose(model, (x,), curvature=True)


def test_the_jacobian_starts_at_the_first_number_of_any_input() -> None:
    torch.manual_seed(0)
    model, ids = Tokens().eval(), torch.randint(50, (4, 9))
    embedded = model.embed(ids[:1])

    def rest(x: Tensor) -> Tensor:
        x, _ = model.recurrent(model.encoder(x))
        return model.head(torch.relu(model.norm(x[:, -1])))

    expected = torch.linalg.svdvals(torch.autograd.functional.jacobian(rest, embedded).reshape(3, -1)).tolist()  # pyright: ignore[reportAttributeAccessIssue]
    for batch in (ids, {"ids": ids, "mask": torch.zeros(4, 9, dtype=torch.bool)}):
        assert mm.diagnose(model, batch, jacobian=True).jacobian == pytest.approx(expected, rel=1e-3)

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2000)

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return factor * self.layer(x)

    wide = Wide()
    values = mm.diagnose(wide, (torch.randn(5, 3), 2.0), jacobian=True).jacobian
    assert values == pytest.approx((2 * torch.linalg.svdvals(wide.layer.weight.detach())).tolist(), rel=1e-4)
    one_hot = nn.Sequential(nn.Linear(5, 2))
    one_hot.register_forward_pre_hook(lambda _, args: nn.functional.one_hot(args[0], 5).float())
    with pytest.raises(ValueError, match=r"the batch is of torch.int64 and Sequential has none"):
        mm.diagnose(one_hot, torch.randint(5, (4,)), jacobian=True)


@pytest.mark.parametrize(
    ("scheme", "activation"),
    [("critical(q=0.25)", nn.Tanh), ("critical(weights='gaussian', q=0.25)", nn.Tanh), ("kaiming", nn.ReLU)],
)
def test_singular_values_are_drawn_under_their_density(scheme: str, activation: type[nn.Module]) -> None:
    parts = [part for _ in range(4) for part in (nn.Linear(120, 120), activation())]
    model, x = nn.Sequential(*parts, nn.Linear(120, 120)), torch.randn(16, 120)
    mm.initialize(model, scheme, batch=x)
    report = mm.diagnose(model, x, jacobian=True)
    axes = report.plot().axes[-1]
    at, density = (np.asarray(part, dtype=float) for part in axes.lines[0].get_data())
    values = np.array(report.jacobian)
    # How many are between two points, away from 0, where the density is steep.
    middle = (at > 0.2 * values.max()) & (at < 0.6 * values.max())
    inside = (values > at[middle][0]) & (values < at[middle][-1])
    assert inside.mean() == pytest.approx(density[middle].sum() * (at[1] - at[0]), abs=0.1)
    assert not mm.diagnose(nn.Sequential(*parts, nn.Linear(120, 10)), x, jacobian=True).plot().axes[-1].lines


def test_bad_input_is_named() -> None:
    model, x = nn.Linear(4, 2), torch.randn(8, 4)
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("model", x), {}, "model is str; expected a module"),
        ((model, x), {"probes": 0}, "probes is 0"),
        ((model, x[:0]), {}, "at least one sample"),
        ((model, x / 0), {}, "not finite"),
        ((model, x[:, :3]), {}, r"Linear fails on a batch of shape \(8, 3\)"),
        ((model, x), {"loss": "mse"}, "there is no target"),
        ((model, x), {"loss": "mce", "target": x[:, :2]}, "Did you mean 'mse'"),
        ((model, x), {"loss": lambda out: out}, "expected a scalar tensor"),
        ((model, x), {"loss": lambda out: out.detach().sum()}, "loss returned a tensor without a gradient"),
        ((model, x), {"target": "a"}, "target is str"),
        ((nn.Sequential(model, nn.BatchNorm1d(2)), x[:1]), {}, "needs two samples or more"),
        ((nn.ReLU(), x), {}, "has no layer to trace"),
    ]
    for arguments, options, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            mm.diagnose(*arguments, **options)


def test_a_compiled_model_is_diagnosed_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x: Any = torch.randn(8, 6)
    assert str(mm.diagnose(cast(nn.Module, torch.compile(model, backend="eager")), x)) == str(mm.diagnose(model, x))
