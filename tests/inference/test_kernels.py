"""Every level of the kernels against a dense computation in whole numbers."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from torch import Tensor

from minimand.inference.kernels import build, native
from minimand.inference.kernels.bits import Bits, pack_above, pool_any, unpack
from minimand.inference.kernels.convolution import pack_weights, prepare

with warnings.catch_warnings(action="ignore"):  # without a compiler there is torch alone
    LEVELS = [None, *native.supported()]


@pytest.fixture(params=LEVELS, ids=str, autouse=True)
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with native.level(request.param):
        yield


@dataclass
class Case:
    """A convolution, drawn."""

    signs: Tensor
    integers: Tensor
    bits: int
    groups: int
    low: int
    geometry: dict[str, Any]
    generator: torch.Generator

    def dense(self) -> Tensor:
        """The sums, in float64, exact."""
        x = self.signs.double() if self.low else (self.signs > 0).double()
        return F.conv2d(x, self.integers.double(), groups=self.groups, **self.geometry).long()

    def packed(self) -> tuple[Bits, Any, dict[str, Any]]:
        """What the functions take."""
        weights = pack_weights(self.integers, self.bits, self.groups)
        return pack_above(self.signs), weights, {**self.geometry, "low": self.low}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs = groups * draw(st.sampled_from([1, 3, 8, 16, 21, 43, 64, 65, 128, 130]))
    outputs = groups * draw(st.sampled_from([1, 2, 7, 16, 33, 64, 70]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.sampled_from([1, 1, 2, (1, 3)]))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    spread = (dilation, dilation) if isinstance(dilation, int) else dilation
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(spread, kernel, padding, strict=True)]
    size = [n + draw(st.integers(0, 6)) for n in least]
    bits = draw(st.sampled_from([1, 2, 4, 8]))
    shape = (outputs, inputs // groups, *kernel)
    if bits == 1:
        integers = 2 * torch.randint(0, 2, shape, generator=generator) - 1
    else:
        integers = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=generator)
    normal = torch.randn(draw(st.integers(1, 3)), inputs, *size, generator=generator)
    signs = torch.where(normal > 0, 1.0, -1.0)  # a normal number is exactly 0 now and then
    geometry = {"stride": draw(st.sampled_from([1, 2, (2, 1), 3])), "padding": padding, "dilation": dilation}
    return Case(signs, integers.to(torch.int8), bits, groups, draw(st.sampled_from([-1, 0])), geometry, generator)


@given(case=cases())
def test_the_sums_are_those_of_a_dense_convolution(case: Case) -> None:
    bits, weights, arguments = case.packed()
    sums = prepare(bits, weights, **arguments).sums(bits)
    assert sums.dtype == torch.int32
    assert sums.is_contiguous(memory_format=torch.channels_last)
    assert sums.long().equal(case.dense())


@given(case=cases(), flipped=st.booleans(), switched=st.booleans())
def test_fused_thresholds_are_those_of_the_sums(case: Case, flipped: bool, switched: bool) -> None:
    bits, weights, arguments = case.packed()
    sums = case.dense()
    count = sums.shape[1]
    limits, others = torch.randint(-9, 9, (2, count, 1, 1), dtype=torch.int32, generator=case.generator)
    limits[0], others[-1] = 2**31 - 1, -(2**31)
    flip = torch.rand(count, generator=case.generator) < 0.5 if flipped else None
    shortcut = torch.rand(sums.shape, generator=case.generator) < 0.5
    expected = sums > (torch.where(shortcut, others, limits) if switched else limits)
    expected = expected if flip is None else expected ^ flip[:, None, None]
    shortcuts: dict[str, Any] = {}
    if switched:
        shortcuts = {"shortcut": pack_above(shortcut.float(), None), "shortcut_limits": others.flatten()}

    bits_above = prepare(bits, weights, **arguments).above(bits, limits.flatten(), flip, **shortcuts)
    assert bits_above.words.equal(pack_above(expected.float()).words)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 140), st.integers(1, 5), st.integers(1, 9)),
    dtype=st.sampled_from([torch.float32, torch.int32, torch.float64, torch.bfloat16]),
    layout=st.sampled_from(["contiguous", "channels_last", "strided", "vector"]),
    has_thresholds=st.booleans(),
)
def test_bits_are_where_the_threshold_is_passed(
    shape: tuple[int, int, int, int], dtype: torch.dtype, layout: str, has_thresholds: bool
) -> None:
    z = (3 * torch.randn(shape)).to(dtype)
    z.view(-1)[::5] = 0
    if dtype.is_floating_point:
        z.view(-1)[::7] = float("nan")
    if layout == "channels_last":
        z = z.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        z = torch.stack([z, -z], 4)[..., 0]
    elif layout == "vector":
        z = z[:, :, 0, 0]
    thresholds = z.reshape(*z.shape[:2], -1)[0, :, 0].nan_to_num() if has_thresholds else None
    flip = torch.rand(shape[1]) < 0.5 if has_thresholds else None
    bits = pack_above(z, thresholds, flip)
    wide = (1, -1, *[1] * (z.ndim - 2))
    expected = z > (0 if thresholds is None else thresholds.view(wide))
    expected = (expected if flip is None else expected ^ flip.view(wide)).view(bits.shape)
    assert unpack(bits, 0, 1, torch.int64).equal(expected.long())
    assert unpack(bits, -0.5, 3).equal(torch.where(expected, 3.0, -0.5))
    assert unpack(bits).is_contiguous(memory_format=torch.channels_last)
    words = bits.words.view(torch.uint8)  # beyond the channels there is nothing
    assert sum(int(byte).bit_count() for byte in words.flatten()) == int(expected.sum())


@given(
    channels=st.sampled_from([1, 63, 64, 100]),
    kernel=st.integers(1, 4),
    stride=st.sampled_from([None, 1, 2, 3]),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    data=st.data(),
)
def test_pooling_is_max_pooling(
    channels: int, kernel: int, stride: int | None, size: tuple[int, int], data: st.DataObject
) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    x = torch.randn(2, channels, *size).sign()
    pooled = pool_any(pack_above(x), kernel, stride, padding)
    assert unpack(pooled).equal(F.max_pool2d(x, kernel, stride, padding))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_largest_sums_do_not_overflow(bits: int) -> None:
    least = -(2 ** (bits - 1)) if bits > 1 else -1
    weights = pack_weights(torch.full((17, 300, 3, 3), least, dtype=torch.int8), bits)
    ones = pack_above(torch.ones(1, 300, 14, 14))
    sums = prepare(ones, weights).sums(ones)
    assert sums.eq(least * 300 * 9).all()


def test_no_samples_are_no_samples() -> None:
    bits, weights = pack_above(torch.ones(0, 70, 4, 4)), pack_weights(torch.ones(6, 35, 3, 3, dtype=torch.int8), 1, 2)
    assert prepare(bits, weights).sums(bits).shape == (0, 6, 2, 2)
    assert prepare(bits, weights).above(bits, torch.zeros(6, dtype=torch.int32)).shape == (0, 6, 2, 2)
    assert unpack(pool_any(bits, 2)).shape == (0, 70, 2, 2)


def test_a_linear_layer_is_a_window_of_one() -> None:
    x, w = torch.randn(3, 130).sign(), torch.randint(-128, 128, (50, 130), dtype=torch.int8)
    sums = prepare(pack_above(x), pack_weights(w[:, :, None, None], 8)).sums(pack_above(x))
    assert sums.flatten(1).long().equal(x.long() @ w.long().t())


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_torch_does_the_work(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    caches = build.library.cache_clear, native.supported.cache_clear
    for clear in caches:
        clear()
        request.addfinalizer(clear)
    monkeypatch.setattr(native, "_forced", [])
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    with pytest.warns(
        UserWarning, match=f"could not be compiled .*{compiler}.* They need a C\\+\\+ compiler.*TORCH_EXTENSIONS_DIR"
    ):
        weights = pack_weights(torch.ones(1, 3, 1, 1, dtype=torch.int8), 1)
    bits = pack_above(torch.ones(1, 3))
    assert prepare(bits, weights).sums(bits).item() == 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


SIGNS = pack_above(torch.ones(2, 3, 4, 4))
ONES = pack_weights(torch.ones(5, 3, 3, 3, dtype=torch.int8), 1)
READY = prepare(SIGNS, ONES, 1, 0, 1, -1)
LIMITS = torch.zeros(5, dtype=torch.int32)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: pack_above(torch.zeros(2, 3, 4)), r"z is torch.float32 of shape \(2, 3, 4\); expected"),
        (lambda: pack_above(torch.zeros(2, 3), torch.zeros(4)), "thresholds .* expected .* one value per channel"),
        (lambda: pack_above(torch.zeros(2, 3), None, torch.zeros(3)), "flip is torch.float32"),
        (lambda: Bits(SIGNS.words, 65), r"words .* \(N, H, W, 2\) for 65 channels"),
        (lambda: pack_weights(torch.ones(5, 3, 3, 3), 1), "integers is torch.float32"),
        (lambda: pack_weights(torch.zeros(5, 3, 1, 1, dtype=torch.int8), 1), "contains 0; expected -1 or 1"),
        (lambda: pack_weights(torch.full((5, 3, 1, 1), 8, dtype=torch.int8), 4), "contains 8; expected -8 to 7"),
        (lambda: pack_weights(torch.ones(5, 3, 1, 1, dtype=torch.int8), 3), "bits is 3; expected 1, 2, 4 or 8"),
        (
            lambda: pack_weights(torch.ones(5, 3, 1, 1, dtype=torch.int8), 1, 2),
            "groups is 2; expected a divisor of the 5",
        ),
        (lambda: prepare(pack_above(torch.zeros(1, 4, 4, 4)), ONES), "bits has 4 channels; expected 3"),
        (lambda: pack_weights(ONES.integers, 1, 0), "groups is 0; expected an integer, 1 to 5"),
        (lambda: prepare(SIGNS, ONES, padding=cast(Any, 1.5)), "padding is 1.5; expected an integer of at least 0"),
        (lambda: prepare(SIGNS, ONES, stride=0), "stride is 0; expected an integer of at least 1"),
        (lambda: prepare(SIGNS, ONES, dilation=2), "a window of 5 x 5 does not fit into"),
        (lambda: prepare(SIGNS, ONES, low=1), "low is 1; expected -1 or 0"),
        (lambda: READY.above(SIGNS, LIMITS.float()), "thresholds is torch.float32"),
        (
            lambda: READY.above(SIGNS, LIMITS, shortcut=SIGNS, shortcut_limits=LIMITS),
            "shortcut is of shape",
        ),
        (lambda: READY.above(SIGNS, LIMITS, shortcut_limits=LIMITS), "expected both, or neither"),
        (lambda: READY.sums(pack_above(torch.ones(2, 3, 4, 5))), r"\(2, 3, 4, 5\); .* prepared for \(2, 3, 4, 4\)"),
        (lambda: READY.above(pack_above(torch.ones(1, 3, 4, 4)), LIMITS), r"prepared for \(2, 3, 4, 4\)"),
        (lambda: READY.above(SIGNS, LIMITS[1:]), r"thresholds is torch.int32 of shape \(4,\)"),
        (lambda: pool_any(SIGNS, 3, padding=2), "padding is 2; expected at most half of the kernel"),
    ],
)
def test_what_does_not_fit_is_named(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrong()
