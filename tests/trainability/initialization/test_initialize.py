"""What holds for every scheme, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import minimand as mm
from minimand._support.names import registry
from minimand.trainability import Job, Scheme
from minimand.trainability.initialization.scheme import SCHEMES, SchemeRegistry
from sweeps import crossed


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


def relu_cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 4))


class Sigmoids(nn.Module):
    """Two layers with batch normalization and a sigmoid that is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first, self.norm = nn.Linear(8, 4), nn.Linear(6, 8), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.sigmoid(self.norm(self.first(x))))


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.second(F.relu(self.first(x))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (mlp, torch.randn(12, 6)),
    "cnn": (relu_cnn, torch.randn(4, 3, 6, 6)),
    "sigmoids": (Sigmoids, torch.randn(12, 6)),
    "skips": (Skips, torch.randn(12, 6)),
    "recurrent": (Recurrent, torch.randn(3, 5, 6)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), torch.randn(5, 2, 8)),
    "ours": (
        lambda: mm.create_model("preact_resnet20", "heavy_ball(momentum=0.5)", num_classes=4),
        torch.randn(2, 3, 8, 8),
    ),
    "our mlp": (lambda: mm.create_model("mlp", "fista", in_channels=6, width=8, depth=3), torch.randn(12, 6)),
}
# What a scheme needs to have around it, where it cannot do without.
SUITS = {
    "skipinit": {"skips", "ours", "our mlp"},
    "rezero": {"skips", "our mlp"},
    "fixup": {"skips", "our mlp"},
    "depth": {"skips", "ours", "our mlp", "transformer"},
    "deepnorm": {"transformer"},
    "tfixup": set(),
    "whiten": set(),
    "recurrent": {"recurrent"},
    "sigmoid_recentred": {"sigmoids"},
    "looks_linear": {"cnn", "skips", "our mlp"},
    "delta_orthogonal": MODELS.keys() - {"ours"},
    "critical": MODELS.keys() - {"sigmoids"},
}


@pytest.mark.parametrize(("scheme", "name"), crossed(SCHEMES, MODELS, through=("critical", "ours")))
def test_nothing_but_weights_changes_and_the_report_tells_them(scheme: str, name: str) -> None:
    make, x = MODELS[name]
    torch.manual_seed(0)
    model = make()
    next(model.parameters()).requires_grad_(False)
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    modes = {n: m.training for n, m in model.named_modules()}
    trainable = {n: p.requires_grad for n, p in model.named_parameters()}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    values = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    options: Any = {"batch": x, "loss": lambda y, t: y.float().pow(3).sum(), "target": x}
    text = f"{scheme}(steps=1)" if scheme in ("metainit", "gradinit") else scheme

    if name not in SUITS.get(scheme, MODELS):
        with pytest.raises(ValueError, match=r"\w"):
            mm.initialize(model, text, **options)
        assert all(torch.equal(p, values[n]) for n, p in model.named_parameters())
        return
    planned = mm.initialize(model, text, **options, dry_run=True)
    assert all(torch.equal(p, values[n]) for n, p in model.named_parameters())
    report = mm.initialize(model, text, **options)
    assert planned.settings == report.settings
    assert report.settings or scheme == "metainit"
    names = dict(model.named_parameters())
    for setting in report.settings:
        owner, _, leaf = setting.name.rpartition(".")
        value = getattr(model.get_submodule(owner), leaf).detach()
        assert setting.std_after == pytest.approx(float(value.std(correction=0)), abs=1e-7)
        assert setting.zero_bias or setting.name in str(report)
        if setting.name in values:
            assert setting.std_before == pytest.approx(float(values[setting.name].std(correction=0)), abs=1e-7)
            assert trainable[setting.name]
    for n in trainable.keys() & names.keys():
        assert names[n].requires_grad == trainable[n]
        assert names[n].grad is None
    assert torch.equal(state, torch.get_rng_state())
    for n, m in model.named_modules():
        assert n not in modes or m.training == modes[n]
    for n, b in model.named_buffers():
        assert torch.equal(b, buffers[n])
    if scheme != "fixup":
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_generator_decides_and_by_default_follows_torchs_state() -> None:
    def drawn(generator: torch.Generator | None = None) -> Tensor:
        model = nn.Linear(4, 4)
        mm.initialize(model, "lecun", generator=generator)
        return model.weight.detach()

    torch.manual_seed(3)
    first, second = drawn(), drawn()  # making the model moved torch's state
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, drawn())
    # The weights are not what torch draws next.
    torch.manual_seed(3)
    model = nn.Linear(4, 4)
    mm.initialize(model, "lecun")
    following = torch.randn(4, 4)
    assert not torch.allclose(model.weight / model.weight.std(), following / following.std(), atol=0.1)
    assert torch.equal(drawn(torch.Generator().manual_seed(1)), drawn(torch.Generator().manual_seed(1)))


def test_what_is_excluded_frozen_or_tied_is_left_and_said_so() -> None:
    model: Any = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False))
    model[3].weight = model[2].weight
    model[1].weight.requires_grad_(False)
    report = mm.initialize(model, "lecun", exclude=("2.bias",))
    assert [s.name for s in report.settings] == ["1.bias", "2.weight"]
    assert report.left_alone == {
        "2.bias": "excluded",
        "1.weight": "frozen",
        "3.weight": "shares its values with 2.weight",
        "0.weight": "part of Embedding",
    }
    for reason in ("left alone, frozen: 1.weight", "left alone, excluded: 2.bias", "set to 0: 1.bias"):
        assert reason in str(report)
    with pytest.raises(ValueError, match=r"in exclude '4'"):
        mm.initialize(model, "lecun", exclude="4")
    with pytest.raises(ValueError, match=r"nothing to initialize in Sequential.*Looked at .*Linear"):
        mm.initialize(model, "lecun", exclude="*")
    with pytest.raises(ValueError, match=r"set nothing.*0.weight: frozen"):
        mm.initialize(nn.Sequential(nn.Linear(2, 2, bias=False).requires_grad_(False)), "lecun")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    model: Any = nn.Linear(16, 16, dtype=dtype)
    mm.initialize(model, "orthogonal")
    w = model.weight.detach().float()
    torch.testing.assert_close(w @ w.T, torch.eye(16), atol=0.02, rtol=0)


def test_parametrized_weights_are_written_through_or_refused() -> None:
    model: Any = parametrizations.weight_norm(nn.Linear(16, 16))
    mm.initialize(model, "orthogonal(gain=2.0)")
    torch.testing.assert_close(model.weight @ model.weight.T, 4 * torch.eye(16))
    with pytest.raises(ValueError, match="parametrized by _SpectralNorm"):
        mm.initialize(parametrizations.spectral_norm(nn.Linear(16, 16)), "lecun")
    with pytest.warns(FutureWarning):
        old = weight_norm(nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"made anew at each call from weight_g, weight_v.*parametrizations"):
        mm.initialize(old, "lecun")


@pytest.mark.parametrize(
    ("model", "scheme", "message"),
    [
        (nn.Linear(2, 2), "kaimign", r"unknown scheme 'kaimign'\. Did you mean 'kaiming'"),
        (nn.Linear(2, 2), "kaiming(fan='out')", r"unknown argument of the scheme kaiming 'fan'"),
        (nn.Linear(2, 2), "kaiming(mode='fan_it')", r"unknown mode 'fan_it'\. Did you mean 'fan_in'"),
        (nn.Linear(2, 2), "lecun(distribution='gauss')", "unknown distribution 'gauss'"),
        (nn.Linear(2, 2), "orthogonal(gain=-1)", "gain is -1"),
        (nn.LazyLinear(2), "lecun", "weight is lazy"),
        (nn.Linear(2, 2, device="meta"), "lecun", "meta device"),
        (nn.ReLU(), "lecun", "nothing to initialize in ReLU"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
            "kaiming",
            "no module that is an activation.*batch=.*activation=",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 2)), "auto", r"ReLU\(\), Tanh\(\)"),
        (Skips(), "depth", "none was found"),
    ],
)
def test_what_cannot_be_done_is_explained(model: nn.Module, scheme: str, message: str) -> None:
    options: Any = {"activation": "relu"} if isinstance(model, Skips) else {}
    with pytest.raises(ValueError, match=message):
        mm.initialize(model, scheme, **options)


def test_what_is_no_model_batch_or_generator_is_named() -> None:
    model, x = mlp(), torch.randn(4, 6)
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("model", "lecun"), {}, "model is str; expected a module"),
        ((model, None), {}, "the scheme is None; expected a name"),
        ((model, "lecun"), {"generator": 3}, "generator is 3; expected a torch.Generator"),
        ((model, "kaiming"), {"batch": x[:, :5]}, r"Sequential fails on a batch of shape \(4, 5\)"),
        ((model, "lsuv"), {"batch": x[:, :5]}, r"Sequential fails on a batch of shape \(4, 5\)"),
        ((model, "metainit"), {"batch": x, "loss": "cross_entropie", "target": x}, "Did you mean 'cross_entropy'"),
    ]
    for arguments, options, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            mm.initialize(*arguments, **options)


def test_values_that_are_not_finite_are_set_or_named() -> None:
    model: Any = mlp()
    model[3].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"3\.weight would be left with values that are not finite"):
        mm.initialize(model, "lecun", exclude="3")
    mm.initialize(model, "lecun")
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_activation_may_be_given_as_a_name_a_function_or_a_module() -> None:
    gains = []
    activations: Any = ("relu", F.relu, nn.ReLU, nn.ReLU())
    for activation in activations:
        report = mm.initialize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "kaiming", activation=activation)
        gains.append(report.settings[2].gain)
    assert gains == pytest.approx([2**0.5] * 4)
    with pytest.raises(ValueError, match="unknown activation 'rleu'"):
        mm.initialize(nn.Linear(4, 4), activation="rleu")


def tiny(job: Job, std: float = 0.01) -> str:
    """All weights of one small deviation."""
    for layer in job.layers:
        job.fill(layer, f"std {std:g}", job.normal(std))
    return "small"


def test_a_scheme_may_be_a_function_or_an_object() -> None:
    model, x = mlp(), torch.randn(12, 6)
    assert mm.initialize(model, tiny, batch=x).scheme == "tiny: small"
    needy = Scheme("needy", tiny, needs=("batch",), traced=False, references=("he2015delving",))
    assert mm.initialize(model, needy, batch=x).references == ("he2015delving",)
    with pytest.raises(ValueError, match="needy measures the model on data; give batch="):
        mm.initialize(model, needy)
    # A registered function stands for its scheme, which here asks for a batch.
    with pytest.raises(ValueError, match="lsuv measures the model on data"):
        mm.initialize(model, SCHEMES["lsuv"].rule)


def test_another_package_brings_a_function_or_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        dist, value, module = None, "theirs:thing", "theirs"

        def __init__(self, name: str, thing: Any) -> None:
            self.name, self.thing = name, thing

        def load(self) -> Any:
            return self.thing

    points = [Point("tiny", tiny), Point("needy", Scheme("needy", tiny, needs=("batch",))), Point("wrong", 3)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "minimand.schemes" else [])
    schemes = SchemeRegistry(
        "scheme", "schemes", "minimand.trainability.initialization.schemes", SCHEMES._accepts, SCHEMES._about
    )
    with pytest.warns(UserWarning, match="the scheme 'wrong' of an unknown package .*: 3 is no scheme"):
        assert schemes.lines() == dict.fromkeys(["needy", "tiny"], "All weights of one small deviation.")
    model: Any = mlp()
    mm.initialize(model, schemes["tiny"], batch=torch.randn(12, 6))
    assert float(model[3].weight.detach().std()) == pytest.approx(0.01, rel=0.3)
    assert schemes.add("needy", tiny) is schemes["needy"]  # as a decorated function does that an entry point names


def test_a_decorated_function_is_a_scheme_by_name_and_names_are_taken_once() -> None:
    with pytest.raises(ValueError, match="two schemes of the name 'kaiming'"):
        mm.trainability.scheme("kaiming")(tiny)
    assert set(mm.list_schemes()) == set(SCHEMES)
    assert mm.list_schemes()["depth"].startswith("Kaiming weights, and each branch divided")
    assert all(mm.list_schemes().values())


def test_what_is_cited_is_what_was_used() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    assert "Poole" in mm.bibliography(mm.initialize(plain, "auto"))
    assert "Fixup" in mm.bibliography(mm.initialize(Skips(), "fixup", batch=torch.randn(4, 6)))
    both = mm.bibliography(mm.initialize(nn.LSTM(4, 4), "auto"), mm.Recipe(adaptive_clip=0.01))
    assert "Jozefowicz" in both
    assert "Simonyan" in both
    for scheme in SCHEMES.values():
        assert mm.bibliography(scheme).count("@") == len(scheme.references)


class TiedWords(nn.Module):
    """A network whose head has the weights of its embedding, under another name."""

    def __init__(self, head_first: bool) -> None:
        super().__init__()
        head, embed = nn.Linear(16, 50, bias=False), nn.Embedding(50, 16)
        head.weight = embed.weight
        for name, module in (("head", head), ("words", embed))[:: 1 if head_first else -1]:
            self.add_module(name, module)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.get_submodule("words")(ids)
        h = h + self.second(torch.relu(self.first(h)))
        return self.get_submodule("head")(h)


@pytest.mark.parametrize("head_first", [True, False])
@pytest.mark.parametrize("scheme", ["auto", "kaiming", "depth", "xavier", "lecun", "orthogonal"])
def test_weights_tied_to_an_embedding_are_left_alone_and_said_to_be(scheme: str, head_first: bool) -> None:
    model = TiedWords(head_first)
    before = model.get_parameter("words.weight" if not head_first else "head.weight").detach().clone()
    report = mm.initialize(model, scheme, batch=torch.randint(50, (4, 9)))
    assert torch.equal(before, model.get_submodule("words").get_parameter("weight"))
    assert report.left_alone["head.weight"] == "shares its values with words.weight, which is no layer"
    assert "head.weight" not in {setting.name for setting in report.settings}
