"""Normalizations swapped in any model: by what they compute, what they keep, and what theory says of them."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.torch.torchvision import require_timm, require_torchvision
from minimand.blocks.convnext import LayerNorm2d
from minimand.layers.normalization import SwitchNorm
from minimand.recipes.parameter_groups import parameter_groups, trainable_parameters
from minimand.surgery.normalizations import NORMALIZATIONS, BetweenLayers, OfWeights, Place
from minimand.surgery.normalizations.group import GroupNormalization
from minimand.theory.block import block_structure

# Every kind of the registry; as many groups as all models here can be split into.
BETWEEN = ["group(groups=2)" if n == "group" else n for n, k in NORMALIZATIONS.items() if issubclass(k, BetweenLayers)]
WEIGHTS = [name for name, kind in NORMALIZATIONS.items() if issubclass(kind, OfWeights)]


def _small(name: str, **settings: Any) -> mm.UnrolledNetwork:
    torch.manual_seed(0)
    return mm.create_model(name, num_classes=5, **settings)


MODELS = {
    "resnet20": lambda **s: _small("resnet20", width=4, depth=3, **s),
    "convnext_atto": lambda **s: _small("convnext_atto", width=4, depth=4, **s),
    "vit_tiny": lambda **s: _small("vit_tiny", width=6, depth=1, image_size=16, patch=4, **s),
}


def _images(name: str) -> Tensor:
    side = {"resnet20": 8, "convnext_atto": 64, "vit_tiny": 16}[name]
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def _reference(kind: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a kind makes of (N, C, ...), by the definition."""
    n, c = x.shape[:2]
    axes = {"batch": (0, *range(2, x.ndim)), "layer": (1,), "rms": (1,), "instance": tuple(range(2, x.ndim))}
    if kind == "none":
        return x
    shape = (c, *[1] * (x.ndim - 2))
    if kind.startswith("group"):
        parts = x.reshape(n, 2, -1)
        mean, variance = parts.mean(2, keepdim=True), parts.var(2, correction=0, keepdim=True)
        normal = ((parts - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    elif kind == "rms":
        normal = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    else:
        mean = x.mean(axes[kind], keepdim=True)
        normal = (x - mean) / (x.var(axes[kind], correction=0, keepdim=True) + 1e-5).sqrt()
    return normal * weight.reshape(shape) + (0 if kind == "rms" else bias.reshape(shape))


@pytest.mark.parametrize("kind", [kind for kind in BETWEEN if kind != "switchable"])
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(4), (5, 4, 3)),
        (nn.BatchNorm2d(4), (5, 4, 3, 2)),
        (nn.BatchNorm3d(4), (5, 4, 3, 2, 2)),
        (nn.GroupNorm(4, 4), (5, 4, 3, 2)),
        (nn.InstanceNorm2d(4, affine=True), (5, 4, 3, 2)),
        (LayerNorm2d(4), (5, 4, 3, 2)),
        (nn.LayerNorm(4), (5, 3, 4)),
        (nn.LayerNorm(4), (5, 3, 2, 4)),
        (SwitchNorm(4), (5, 4, 3, 2)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_every_kind_in_the_place_of_every_other(norm: nn.Module, shape: tuple[int, ...], kind: str) -> None:
    """From any kind to any kind, with weight and bias, channels first and last, any number of positions; and back."""
    model = nn.Sequential(copy.deepcopy(norm))
    torch.manual_seed(0)
    weight, bias = cast(Tensor, model[0].weight), cast(Tensor, model[0].bias)
    nn.init.normal_(weight)
    nn.init.normal_(bias)
    last = type(norm) is nn.LayerNorm
    x = 3 * torch.randn(shape) + 1
    first = x.movedim(-1, 1) if last else x
    y = _reference(kind, first, weight, bias)
    expected = y.movedim(1, -1) if last else y
    same = kind.partition("(")[0] in type(norm).__name__.lower() and not kind.startswith("group")
    if same:
        with pytest.raises(ValueError, match=f"0: is {type(norm).__name__} already"):
            mm.normalize(model, kind)
    else:
        assert mm.normalize(model, kind) is model
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    if kind not in ("none", "rms"):
        for again in ("switchable", "group(groups=1)", kind):
            mm.normalize(model, again)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        assert len(mm.changes(model)) == 4 - same


# What a model has already, and instances behind the pooling of ConvNeXt, where one position is left.
NOT_THERE = {("resnet20", "batch"), ("convnext_atto", "layer"), ("convnext_atto", "instance"), ("vit_tiny", "layer")}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in MODELS for kind in BETWEEN + WEIGHTS if (name, kind) not in NOT_THERE],
)
def test_models_are_kept(name: str, kind: str, tmp_path: Path) -> None:
    """Mode, dtype, random state and blocks stay; all parameters learn; the file and the configuration make it again."""
    model = MODELS[name]().double().eval()
    before = torch.get_rng_state()
    mm.normalize(model, kind)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(m.training for m in model.modules())
    assert {t.dtype for t in model.state_dict().values() if t.is_floating_point()} == {torch.double}
    x = _images(name)
    model.train()(x.double()).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    twin = MODELS[name](normalization=kind)
    assert twin.config == model.config
    twin.train()(x)
    twin.save_pretrained(tmp_path)
    loaded = mm.UnrolledNetwork.from_pretrained(tmp_path)
    assert torch.equal(loaded.eval()(x), twin.eval()(x))
    other = copy.deepcopy(twin)
    assert str(mm.changes(other)) == str(mm.changes(twin))
    state = twin.stem(x)
    for layer in twin.layers:
        state = layer(state)
    torch.testing.assert_close(twin.head(state), twin(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin.forward_head(twin.forward_features(x)), twin(x), rtol=1e-4, atol=1e-5)
    if kind != "none":
        decay, rest = (
            sum(p.numel() for p in group["params"]) for group in parameter_groups(trainable_parameters(model), 0.1)
        )
        matrices = sum(p.numel() for p in model.parameters() if sum(length > 1 for length in p.shape) > 1)
        assert 0.9 * matrices <= decay <= matrices
        assert decay + rest == sum(p.numel() for p in model.parameters())


def test_weights_of_something_else_are_not_loaded(tmp_path: Path) -> None:
    """A part that was normalized on its own is in no configuration; loading must not give another network."""
    model = MODELS["resnet20"]()
    mm.normalize(model.body, "switchable")
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mean_weights"):
        mm.UnrolledNetwork.from_pretrained(tmp_path)


def test_weight_norm_is_the_same_network_at_first() -> None:
    model, x = MODELS["convnext_atto"]().double().eval(), _images("convnext_atto").double()
    expected = model(x)
    torch.testing.assert_close(mm.normalize(model, "weight")(x), expected)
    transposed = nn.Sequential(nn.ConvTranspose2d(3, 4, 2))
    lengths = mm.normalize(transposed, "weight")[0].parametrizations.weight.original0  # type: ignore[union-attr]
    assert lengths.shape == (1, 4, 1, 1)


def test_spectral_norm_has_largest_singular_value_1() -> None:
    model = mm.normalize(MODELS["vit_tiny"]().double(), "spectral")
    for _ in range(100):
        model(_images("vit_tiny").double())
    for layer in model.eval().modules():
        if isinstance(layer, nn.Linear):
            assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, rel=1e-2)


def test_models_of_others() -> None:
    """An activation inside a normalization stays; names of weights do too; torch's transformer leaves its fast path."""
    timm = require_timm()
    torch.manual_seed(0)
    model = timm.create_model("densenet121", num_classes=5, memory_efficient=False)
    names = set(dict(model.named_parameters()))
    mm.normalize(model, "none")
    assert cast(Any, mm.changes(model)[0]).changed[0][1:] == ("BatchNormAct2d", "Identity and ReLU")
    model = timm.create_model("resnet18", num_classes=5)
    names = set(dict(model.named_parameters()))
    assert set(dict(mm.normalize(model, "group(groups=8)").named_parameters())) == names
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mm.normalize(encoder, "rms")
    x = torch.randn(2, 3, 8)
    expected = encoder(x)
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(x), expected)
    assert cast(Any, mm.changes(mm.normalize(encoder, "weight"))[1]).left == tuple(
        (f"layers.{i}.self_attn", "MultiheadAttention has weights that are no linear or convolutional layer's")
        for i in (0, 1)
    )


def test_a_shared_normalization_stays_shared() -> None:
    norm = nn.BatchNorm1d(4)
    model = mm.normalize(nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm), "group(groups=2)")
    assert model[1] is model[3]
    assert isinstance(model[1], nn.GroupNorm)


def test_frozen_parameters_stay_frozen_and_what_is_missing_stays_missing() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, eps=0.1))
    model[0].weight.requires_grad_(False)
    norms = cast(Any, mm.normalize(model, "switchable"))
    assert (norms[0].weight.requires_grad, norms[0].bias.requires_grad) == (False, True)
    assert norms[1].weight is None
    assert norms[2].eps == 0.1


def test_a_certificate_looks_through_them() -> None:
    for kind in ["batch", "layer", "switchable", "group(groups=2)", "weight", "standardized"]:
        block = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(1, 4), nn.ReLU(), nn.Linear(4, 4))
        assert block_structure(mm.normalize(block, kind)).two_layer == "yes", kind


def test_the_report() -> None:
    model = MODELS["resnet20"]()
    assert not mm.changes(model)
    mm.normalize(model, "group(groups=2)")
    (record,) = mm.changes(model)
    assert (
        str(record)
        == """\
normalized by group(groups=2):
  stem.module.1 ... body.2.module.branch.4 (7)  BatchNorm2d -> GroupNorm of 2 groups"""
    )
    mm.normalize(model, "standardized")
    assert "Conv2d -> its weight by Standardized" in str(mm.changes(model)[1])
    cited = mm.bibliography(model)
    assert all(key in cited for key in ("he2016resnet", "wu2018groupnorm", "qiao2019standardization"))
    assert model.config["normalization"] == ["group(groups=2)", "standardized"]


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    return model


def _conv(*norms: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *norms)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (_conv, "bacth", "unknown normalization 'bacth'. Did you mean 'batch'"),
        (_conv, "group(gruops=2)", "unknown argument of group 'gruops'. Did you mean 'groups'"),
        (_conv, "group(groups=0)", "groups is 0; expected an integer, at least 1"),
        (_conv, "standardized(gamma=-1)", "gamma is -1; expected at least 0"),
        (
            lambda: _conv(nn.BatchNorm2d(4), nn.BatchNorm2d(6)),
            "group",
            r"the 4 channels of 1 cannot be split into 32 groups; 'group\(groups=2\)' would do for all",
        ),
        (
            _conv,
            "batch",
            "nothing to normalize by batch in Sequential: expected a normalization of torch. Looked at Seq",
        ),
        (lambda: nn.ReLU(), "weight", "expected a linear or convolutional layer. Looked at ReLU"),
        (lambda: _conv(nn.BatchNorm2d(4)), "batch", "1: is BatchNorm2d already"),
        (lambda: _conv(nn.LayerNorm([4, 2, 2])), "batch", "LayerNorm is over several axes"),
        (lambda: _conv(nn.LazyBatchNorm2d()), "layer", "has no size yet: give the model a batch first"),
        (lambda: nn.BatchNorm2d(4), "layer", "model is a normalization itself, BatchNorm2d"),
        (lambda: mm.normalize(_conv(), "weight"), "weight", "the weight of 0 is parametrized already"),
        (_tied, "weight", "0 and 1 share a weight; a normalized one would be shared no longer"),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 3, 2)), "standardized", "0: ConvTranspose2d is transposed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_bad_input(make: Any, kind: str, message: str) -> None:
    model = make()
    before = str(model)
    with pytest.raises(ValueError, match=message):
        mm.normalize(model, kind)
    assert str(model) == before


def _plain(width: int, depth: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear, batch normalization, activation."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        nn.init.normal_(linear.weight, std=1 / math.sqrt(width))
        layers += [linear, nn.BatchNorm1d(width), activation()]
    return nn.Sequential(*layers)


def _growth(batch: int, activation: type[nn.Module]) -> float:
    """How much the squared gradient grows from a layer to the one before it, in the middle of a deep plain network."""
    torch.manual_seed(0)
    depth, skip = 14, 4
    model = _plain(512, depth, activation).double()
    x = torch.randn(batch, 512, dtype=torch.double)
    outputs = []
    for i in range(depth):
        x = model[3 * i + 2](model[3 * i + 1](model[3 * i](x)))
        x.retain_grad()
        outputs.append(x)
    (x * torch.randn_like(x)).sum().backward()
    norms = [float(cast(Tensor, y.grad).square().sum()) for y in outputs]
    return (norms[skip] / norms[-2]) ** (1 / (depth - 2 - skip))


def test_batch_normalization_explodes_without_skips() -> None:
    """Squared gradients grow by pi / (pi - 1) a layer with ReLU, and (B - 2) / (B - 3) without (Yang et al. 2019)."""
    assert _growth(256, nn.ReLU) == pytest.approx(math.pi / (math.pi - 1), abs=0.03)
    assert _growth(32, nn.Identity) == pytest.approx(30 / 29, abs=0.012)
    assert _growth(8, nn.ReLU) > 1.6


@pytest.mark.parametrize("kind", ["batch", "layer", "group(groups=2)", "instance", "switchable"])
def test_weights_before_a_normalization_have_no_length(kind: str) -> None:
    """<gradient, w> = 0, and three times the weight has a third of the gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.GroupNorm(4, 4), nn.ReLU(), nn.Flatten())
    if kind != "group(groups=2)":
        mm.normalize(model, kind)
    convolution = cast(nn.Conv2d, model.double()[0])
    for m in model.modules():
        if hasattr(m, "eps"):
            m.eps = 1e-14  # type: ignore[assignment]
    x, target = torch.randn(6, 3, 6, 6).double(), torch.randn(6, 64).double()
    norms = []
    for _ in range(2):
        convolution.weight.grad = None
        (model(x) * target).sum().backward()
        gradient = cast(Tensor, convolution.weight.grad)
        norms.append(float(gradient.norm()))
        with torch.no_grad():
            w = convolution.weight
            assert (gradient * w).sum().abs() < 1e-9 * norms[-1] * w.norm()
            convolution.weight.mul_(3)
    assert norms[1] / norms[0] == pytest.approx(1 / 3, rel=1e-9)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_normalized_weights_have_no_length_either(kind: str) -> None:
    """Orthogonal to its direction, for weight norm; for the others to the weight itself, once the vectors are found."""
    torch.manual_seed(0)
    model = mm.normalize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).double(), kind)
    x = torch.randn(6, 3, 6, 6).double()
    for _ in range(300):
        model(x)
    model.eval()
    model(x).square().sum().backward()
    weights = cast(Any, model[0]).parametrizations.weight
    w = weights.original1 if kind == "weight" else weights.original
    assert (w.grad * w).sum().abs() < 1e-5 * w.grad.norm() * w.norm()


def test_what_stood_behind_a_normalization_no_longer_writes_into_the_skip() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.branch(x)

    model, x = mm.normalize(Block(), "none"), torch.randn(8, 4)
    torch.testing.assert_close(model(x.clone()), x + model.branch[2](x.relu()))
    images = torch.randn(2, 3, 8, 8)
    assert mm.normalize(mm.create_model("preact_resnet20"), "none")(images).isfinite().all()


def test_a_new_normalization_is_one_class_that_others_can_take_the_place_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another package would add one by an entry point; and an object serves as well as a name."""

    class MaxNorm(nn.Module):
        def __init__(self, num_features: int) -> None:
            super().__init__()
            self.num_features = num_features

        def forward(self, x: Tensor) -> Tensor:
            return x / x.abs().amax((0, *range(2, x.ndim)), keepdim=True)

    class ByMaximum(BetweenLayers):
        """By the largest value of each channel."""

        makes = (MaxNorm,)

        def module(self, place: Place) -> nn.Module:
            return place.channels_first(MaxNorm(place.channels))

    monkeypatch.setitem(NORMALIZATIONS._things, "maximum", ByMaximum)
    model = mm.normalize(MODELS["resnet20"](), "maximum")
    assert isinstance(model(_images("resnet20")), Tensor)
    assert sum(isinstance(m, MaxNorm) for m in model.modules()) == 7
    assert mm.surgery.list_normalizations()["maximum"] == "By the largest value of each channel."
    with pytest.raises(ValueError, match="is MaxNorm already"):
        mm.normalize(model, ByMaximum())
    mm.normalize(model, GroupNormalization(groups=2))
    assert model.config["normalization"] == ["maximum", "group(groups=2)"]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_model_whose_weights_are_computed_is_pickled_whole(name: str) -> None:
    """Which torch refuses; what comes back is no copy that shares a class, and trains on."""
    model = mm.normalize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)), name).eval()
    x = torch.randn(2, 3, 4, 4)
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(x), model(x))
    mm.changes(model).undo()
    twin.train()(x).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())
    assert torch.equal(pickle.loads(pickle.dumps(twin)).eval()(x), twin.eval()(x))


def test_statistics_over_positions_are_refused_in_causal_models_of_transformers() -> None:
    require_torchvision("by the tests")
    import transformers

    sizes: Any = {"vocab_size": 20, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 8}
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2))
    for model in (gpt, bloom):
        with pytest.raises(ValueError, match=f"a token of {type(model).__name__} would read those that follow it"):
            mm.normalize(model, "group(groups=2)")
