"""Invertible downsampling."""

import pytest
import torch
from hypothesis import given, strategies as st

from minimand.layers.reshaping import SpaceToDepth


@given(n=st.integers(1, 3), c=st.integers(1, 5), h=st.integers(1, 4), w=st.integers(1, 4), last=st.booleans())
def test_the_order_is_the_published_one_and_nothing_is_lost(n: int, c: int, h: int, w: int, last: bool) -> None:
    x = torch.randn(n, c, 2 * h, 2 * w)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    y = SpaceToDepth()(x)
    assert y.shape == (n, 4 * c, h, w)
    for dy in (0, 1):
        for dx in (0, 1):
            for channel in range(c):
                assert torch.equal(y[:, (2 * dy + dx) * c + channel], x[:, channel, dy::2, dx::2])
    assert torch.equal(SpaceToDepth().inverse(y), x)


def test_it_is_not_torchs_order_but_for_one_channel() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert not torch.equal(SpaceToDepth()(x), torch.nn.PixelUnshuffle(2)(x))
    assert torch.equal(SpaceToDepth()(x[:, :1]), torch.nn.PixelUnshuffle(2)(x[:, :1]))


def test_an_odd_side_is_named() -> None:
    with pytest.raises(ValueError, match="maps of 5 x 4; expected even sides"):
        SpaceToDepth()(torch.zeros(1, 1, 5, 4))
    with pytest.raises(ValueError, match="given 6 channels; expected a multiple of 4"):
        SpaceToDepth().inverse(torch.zeros(1, 6, 2, 2))
