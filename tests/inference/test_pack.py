"""Packed models against the hardened ones they were made of."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hardened import ready
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

import minimand as mm
from minimand.inference import steps
from minimand.inference.lower import RULES, Rule
from minimand.inference.steps import PackedLayer
from minimand.layers.thresholds import Threshold
from minimand.layers.weight_bits import few_bit_weight
from minimand.models.vision.feedforward import convnet4, convnet8

THRESHOLDS: list[Callable[[], Threshold]] = [
    mm.Sign,
    mm.Heaviside,
    lambda: mm.QuantizedReLU(3),
    lambda: mm.QuantizedReLU(4),
    lambda: mm.QuantizedReLU(6),
]
INTEGERS = st.integers


def layers_of(packed: mm.PackedModel) -> list[PackedLayer]:
    return [m for m in packed.steps.modules() if isinstance(m, PackedLayer)]


def check(model: nn.Module, x: Tensor, layers: int, weights: int | None = None) -> mm.PackedModel:
    """Pack a model and compare what it gives, to the bit, in both memory formats."""
    packed = mm.pack(model, weights)
    assert len(layers_of(packed)) == layers
    for given_ in [x, *([x.contiguous(memory_format=torch.channels_last)] if x.ndim == 4 else [])]:
        assert torch.equal(packed(given_), model(given_))
    return packed


@st.composite
def convolutional(draw: Any) -> tuple[nn.Module, Tensor, int]:
    """A real convolution, some of few bits with pooling and normalization in any order, and a real end."""
    threshold = draw(st.sampled_from(THRESHOLDS))
    bits = draw(st.sampled_from([1, 2, 4, 8]))
    torch.manual_seed(draw(INTEGERS(0, 10**6)))
    channels = draw(INTEGERS(1, 70))
    modules: list[nn.Module] = [nn.Conv2d(2, channels, 3, padding=1)]

    def cut() -> list[nn.Module]:
        norm = nn.BatchNorm2d(channels, affine=draw(st.booleans()))
        pool = draw(st.sampled_from([nn.Identity(), nn.MaxPool2d(2, 1, 1), nn.MaxPool2d(3, 2, 1)]))
        order = draw(st.sampled_from([[norm], [norm, pool], [pool, norm], [pool], [], [norm, nn.Dropout(0.5), norm]]))
        return [*order, threshold()]

    modules += cut()
    count = draw(INTEGERS(1, 3))
    for _ in range(count):
        groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
        out, kernel = groups * draw(INTEGERS(1, 70 // groups)), draw(INTEGERS(1, 3))
        layer = nn.Conv2d(
            *(channels, out, (kernel, draw(INTEGERS(1, 3))), draw(INTEGERS(1, 2))),
            padding=draw(INTEGERS(0, 2)),
            dilation=draw(INTEGERS(1, 2)),
            groups=groups,
            bias=draw(st.booleans()),
        )
        layer = few_bit_weight(layer, bits, threshold().unit)
        channels = out
        modules += [layer, *cut()]
    end = draw(st.sampled_from([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(2)]))
    features = channels * (1 if isinstance(end, nn.AdaptiveAvgPool2d) else 4)
    modules += [end, nn.Flatten(), nn.Linear(features, 3)]
    x = torch.randn(draw(INTEGERS(2, 3)), 2, draw(INTEGERS(12, 19)), draw(INTEGERS(12, 17)))
    return nn.Sequential(*modules), x, count


def fits(model: nn.Module, x: Tensor) -> bool:
    try:
        return model(x).numel() > 0
    except (RuntimeError, ValueError):  # a window larger than what is left of the maps
        return False


@given(convolutional())
def test_a_packed_convolutional_network_is_the_hardened_one_to_the_bit(case: tuple[nn.Module, Tensor, int]) -> None:
    model, x, count = case
    if fits(model, x):
        check(ready(model, x), x, count)


@settings(max_examples=15)
@given(
    st.sampled_from(THRESHOLDS),
    st.sampled_from([1, 2, 4, 8]),
    st.lists(INTEGERS(1, 200), min_size=2, max_size=4),
    st.booleans(),
)
def test_a_packed_network_of_linear_layers(
    threshold: Callable[[], Threshold], bits: int, widths: list[int], normalized: bool
) -> None:
    torch.manual_seed(sum(widths))
    modules: list[nn.Module] = [nn.Linear(7, widths[0])]
    for a, b in pairwise([*widths, 5]):
        layer = few_bit_weight(nn.Linear(a, b), bits, threshold().unit)
        modules += [*([nn.BatchNorm1d(a)] if normalized else []), threshold(), layer]
    x = torch.randn(9, 7)
    check(ready(nn.Sequential(*modules, threshold(), nn.Linear(5, 4)), x), x, len(widths))


@pytest.mark.parametrize(("threshold", "bits"), [(mm.Sign, 1), (mm.Sign, 8), (lambda: mm.QuantizedReLU(4), 2)])
@pytest.mark.parametrize(("make", "layers"), [(convnet4, 2), (convnet8, 6)])
def test_the_networks_of_the_paper(
    make: Callable[[], nn.Module], layers: int, threshold: Callable[[], Threshold], bits: int
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = make()
    mm.harden(model, threshold(), weight_bits=bits)
    check(ready(model, x), x, layers)


@pytest.mark.parametrize("threshold", [mm.Sign(), mm.QuantizedReLU(4)])
@pytest.mark.parametrize(
    ("name", "algorithm", "layers"),
    [
        ("resnet20", "gradient_descent", 18),  # shortcuts of bits, two of them with channels of zeros
        ("preact_resnet20", "gradient_descent", 18),  # a real state
        ("cifar_resnet18", "gradient_descent", 19),  # learned shortcuts
        ("resnet20", "heavy_ball(momentum=Learnable(0.5, 0, 1))", 15),  # states that are no activations
        ("preact_resnet20", "nesterov_y(momentum=0.5)", 18),
    ],
)
def test_residual_networks(name: str, algorithm: str, layers: int, threshold: Threshold) -> None:
    x = torch.randn(2, 3, 16, 16)
    model = mm.create_model(name, algorithm, width=5)
    mm.harden(model, threshold, weight_bits=1)
    check(ready(model, x), x, layers)


@pytest.mark.parametrize("threshold", [mm.Sign(), mm.QuantizedReLU(4)])
def test_channels_that_are_the_last_axis(threshold: Threshold) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = mm.create_model("convnext_atto", width=8, depth=4)
    mm.harden(model, threshold, weight_bits=1)
    check(ready(model, x), x, 4)
    layers = [nn.Linear(5, 9), threshold, nn.Linear(9, 7), nn.Dropout(0.5), threshold, nn.Linear(7, 3)]
    layers[2] = few_bit_weight(layers[2], 4, threshold.unit)  # pyright: ignore[reportArgumentType]
    tokens = ready(nn.Sequential(*layers), torch.randn(2, 5))
    packed = check(tokens, torch.randn(4, 6, 5), 1)
    assert packed.operations(6, 5)["4-bit"] == 6 * 63 * (threshold.levels - 1).bit_length()
    check(tokens, torch.randn(4, 3, 2, 5), 1)


class _Odd(nn.Module):
    """Writes in place, concatenates, uses a layer twice, pads by reflection, and calls functions at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.sign = nn.Conv2d(3, 6, 3), mm.Sign()
        self.twice = few_bit_weight(nn.Conv2d(6, 6, 3, padding="same"), 1)
        self.reflected = few_bit_weight(nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), 1)
        self.wide, self.head = few_bit_weight(nn.Conv2d(12, 4, 1), 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.sign(self.first(x))
        z = self.twice(h)
        z += h
        a = self.sign(z=z)
        b = self.sign(self.reflected(a).add_(self.twice(a)))
        y = self.wide(self.sign(torch.cat([a, b], 1).sub_(0.5)))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1).sigmoid())


def test_what_cannot_run_on_bits_is_the_same_torch_operation() -> None:
    x = torch.randn(2, 3, 9, 8)
    packed = check(ready(_Odd(), x), x, 3)
    assert "as it was: FewBitConv2d(6, 6" in str(packed)


def test_real_weights_between_thresholds_stay_or_are_rounded() -> None:
    x = torch.randn(3, 3, 32, 32)
    model = convnet8()
    mm.harden(model, mm.Sign())
    ready(model, x)
    with pytest.raises(ValueError, match=r"weight_bits=8\) would round those of 3, 6, 10, 13, 16, 20 to 8 bits"):
        mm.pack(model)
    rounded = copy.deepcopy(model)
    for name in ("3", "6", "10", "13", "16", "20"):
        rounded.set_submodule(name, few_bit_weight(rounded.get_submodule(name), 8))  # pyright: ignore[reportArgumentType]
    packed = mm.pack(model, weight_bits=8)
    assert torch.equal(packed(x), rounded(x))
    half = copy.deepcopy(model)
    half.set_submodule("10", few_bit_weight(half.get_submodule("10"), 2))  # pyright: ignore[reportArgumentType]
    check(half, x, 1)


def test_packing_leaves_the_model_as_it_is() -> None:
    x = torch.randn(2, 3, 32, 32)
    model = convnet8()
    mm.harden(model, mm.Sign(), weight_bits=1)
    before = copy.deepcopy(model.state_dict())
    mm.pack(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    packed = mm.pack(ready(model, x))
    assert not packed.train().training
    assert torch.equal(mm.pack(torch.compile(model, backend="eager"))(x), packed(x))  # pyright: ignore


def test_what_a_layer_prepared_for_one_shape_serves_no_other() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 70, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(70, 9, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    mm.harden(model.eval(), mm.Sign(), weight_bits=8)
    packed = mm.pack(model)
    batches = [torch.randn(n, 3, side, 40 - side) for side in range(7, 30) for n in (1, 3, 4)]
    expected = [model(x) for x in batches]
    assert len(batches) > steps._SHAPES
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(packed, batches), expected))
        copies = copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))
        del packed
        for one in copies:
            assert all(map(torch.equal, pool.map(one, batches[::-1]), expected[::-1]))


def test_operations_and_sizes_are_counted_by_precision() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 3, stride=2, groups=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(250, 6), nn.ReLU(), nn.Linear(6, 2)),
    )
    mm.harden(model, mm.QuantizedReLU(4), weight_bits=1)
    packed = mm.pack(model)
    of_two_digits = 2 * (25 * 10 * 36 + 250 * 6)
    assert packed.operations(3, 14, 14) == {"float": 12 * 12 * 8 * 27 + 12, "1-bit": of_two_digits}
    assert packed.sizes()["1-bit"] == (10 * 36) // 8 + -(-250 * 6 // 8)
    assert "operations" not in str(packed)
    packed(torch.zeros(1, 3, 14, 14))
    assert "operations for 3 x 14 x 14: 1-bit 0.0 M" in str(packed)
    assert "2 to 3" in str(packed)
    assert "weights 10 x 4 x 3 x 3 of 1 bit: bits to bits" in str(packed)


def _with(module: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3), mm.Sign(), nn.Conv2d(4, 4, 3), module, mm.Sign(), nn.Conv2d(4, 2, 1)]
    layers[2] = few_bit_weight(layers[2], 1)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers)


class _Called(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class _Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sign = mm.Sign()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.sign(a + b)


def _apart(module: nn.Module, threshold: Threshold) -> nn.Module:
    """A module between the threshold and the layer of few bits."""
    layers = [nn.Conv2d(3, 4, 3), threshold, module, nn.Conv2d(4, 4, 3), mm.Sign(), nn.Conv2d(4, 2, 1)]
    layers[3] = few_bit_weight(layers[3], 1)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
            r"has no thresholds.*mm.harden\(model, mm.Sign\(\), weight_bits=1\)",
        ),
        (nn.Sequential(nn.Linear(2, 2), mm.Sign(), nn.Linear(2, 2)), "nothing to pack in Sequential: no layer with"),
        (_with(nn.GELU()), r"3 is GELU\(approximate='none'\), between thresholds, and cannot be folded.*mm.harden"),
        (_with(_Called()), "calls gelu as a function between thresholds.*make it a module"),
        (
            _with(
                mm.rewire(
                    nn.Sequential(*(nn.Sequential(nn.Tanh(), nn.Conv2d(4, 4, 1)) for _ in range(3))), "heavy_ball"
                )
            ),
            "is rewired: .* mm.unroll",
        ),
        (_with(mm.Equilibrium(nn.Conv2d(4, 4, 1))), "has an equilibrium"),
        (_with(_Decides()), "cannot be read by torch.fx.*decisions that depend on the input"),
        (_Two(), "_Two.forward takes a, b; expected one tensor"),
        (_apart(nn.AvgPool2d(2), mm.Sign()), r"those that there are \(3\) have other inputs. Linear layers and"),
        (_apart(nn.Identity(), mm.Staircase(3, -1, 1)), r"those that there are \(3\) have other inputs"),
    ],
)
def test_what_cannot_be_packed(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.pack(model)


def test_another_module_is_one_rule_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = _apart(nn.FeatureAlphaDropout(), mm.Sign()).eval(), torch.randn(2, 3, 9, 9)
    with pytest.raises(ValueError, match="nothing to pack"):
        mm.pack(model)

    def dropout(lowering: Any, node: Any, module: nn.Module, value: Any) -> Any:
        return value

    monkeypatch.setitem(RULES, nn.FeatureAlphaDropout, Rule(dropout, "forwards"))
    check(model, x, 1)


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="model is str; expected a module"):
        mm.pack("resnet20")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="weight_bits is 3; expected 1, 2, 4 or 8"):
        mm.pack(_with(nn.Identity()), weight_bits=3)
    model = convnet8()
    mm.harden(model, mm.Sign(), weight_bits=1)
    packed = mm.pack(model)
    with pytest.raises(ValueError, match="model is a packed one; expected the hardened model"):
        mm.pack(packed)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 32, 32\); expected \(N, 3, H, W\)"):
        packed(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"torch.float64 on cpu; expected a tensor of torch.float32 on the CPU"):
        packed(torch.zeros(2, 3, 32, 32).double())
    with pytest.raises(ValueError, match="leave maps of 3 x 3; the network is made for images of 32 x 32"):
        packed(torch.zeros(2, 3, 40, 40))
    tokens = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(5), mm.Sign(), nn.Linear(4, 4), mm.Sign(), nn.Linear(4, 2))
    tokens[3] = few_bit_weight(tokens[3], 1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"a threshold was given \(2, 5, 4\); packed layers take \(N, C\)"):
        mm.pack(tokens)(torch.zeros(2, 5, 4))
