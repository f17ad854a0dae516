"""Packed equals hardened to the bit whatever the threads, the order of memory and the sides; empty batches too."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hardened import ready
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

import minimand as mm
from minimand.layers.weight_bits import few_bit_weight

ENDS = ["convolution", "pooling", "mean", "linear", "normalization"]
THRESHOLDS = {"sign": mm.Sign, "heaviside": mm.Heaviside, "levels": lambda: mm.QuantizedReLU(4)}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class _Network(nn.Module):
    """Two thresholds, a layer of few bits between them and one after them, and real layers at the end."""

    def __init__(self, channels: list[int], kernel: int, threshold: str, norm: bool, adds: bool, end: str) -> None:
        super().__init__()
        real, a, b, c = channels
        make, unit = THRESHOLDS[threshold], THRESHOLDS[threshold]().unit
        self.first = nn.Sequential(nn.Conv2d(real, a, 1), make())
        middle = few_bit_weight(nn.Conv2d(a, a if adds else b, kernel, padding=kernel // 2), 1, unit)
        self.middle, self.adds = nn.Sequential(middle, *([nn.BatchNorm2d(a if adds else b)] if norm else [])), adds
        self.cut = make()
        self.bits = few_bit_weight(nn.Conv2d(a if adds else b, c, 1), 2, unit)
        self.end = {
            "convolution": lambda: nn.Sequential(nn.Conv2d(c, 9, 1), nn.Conv2d(9, 70, 1)),
            "pooling": lambda: nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(c, 9, 1), nn.AdaptiveAvgPool2d(1)),
            "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10)),
            "linear": lambda: nn.Sequential(
                nn.Conv2d(c, 7, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(28, 3)
            ),
            "normalization": lambda: nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, 5, 1)),
        }[end]()

    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        z = self.middle(h)
        return self.end(self.bits(self.cut(z + h if self.adds else z)))


@settings(max_examples=50, deadline=None)
@given(
    threads=st.integers(1, 3),
    sides=st.tuples(st.sampled_from([1, 1, 2, 5]), st.sampled_from([1, 1, 2, 7])),
    batch=st.sampled_from([0, 1, 2, 3]),
    channels=st.lists(st.sampled_from([1, 2, 3, 33, 70]), min_size=4, max_size=4),
    kernel=st.sampled_from([1, 3]),
    threshold=st.sampled_from(sorted(THRESHOLDS)),
    norm=st.booleans(),
    adds=st.booleans(),
    end=st.sampled_from(ENDS),
    orders=st.tuples(st.booleans(), st.booleans()),
)
def test_maps_of_any_sides_in_any_memory_are_the_same_to_the_bit(
    threads: int, sides: tuple[int, int], batch: int, channels: list[int], orders: tuple[bool, bool], **what: Any
) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = ready(_Network(channels, **what), torch.randn(4, channels[0], 5, 5))
    images = torch.randn(batch, channels[0], *sides)
    if orders[0]:
        convert_conv2d_weight_memory_format(model, torch.channels_last)
    if orders[1]:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(mm.pack(model)(images), model(images))


@pytest.mark.parametrize("shape", [(0, 7), (0, 4, 7), (2, 0, 7)])
@pytest.mark.parametrize("threshold", sorted(THRESHOLDS))
def test_nothing_through_linear_layers_is_nothing(shape: tuple[int, ...], threshold: str) -> None:
    make = THRESHOLDS[threshold]
    bits = few_bit_weight(nn.Linear(33, 20), 1, make().unit), few_bit_weight(nn.Linear(20, 10), 4, make().unit)
    model = nn.Sequential(nn.Linear(7, 33), make(), bits[0], make(), bits[1]).eval()
    x = torch.zeros(shape)
    assert mm.pack(model)(x).shape == model(x).shape == (*shape[:-1], 10)
