"""Windows of a text: what they read, in order and drawn, and how they are entered."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from minimand.data.samples import NO_CLASS
from minimand.data.text.windows import Windows


@st.composite
def texts(draw: st.DrawFn) -> Windows:
    """Windows of the text 0, 1, 2 ..., so that a token says where it stands, in documents or not."""
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    context = draw(st.integers(1, 12))
    apart = draw(st.booleans())
    if (max(lengths) if apart else sum(lengths)) < 2:
        lengths, bounds = [2], np.array([0, 2])
    tokens = np.arange(bounds[-1], dtype=np.int16)
    return Windows(tokens, context, "key", bounds=bounds if apart else None)


def bounds_of(windows: Windows) -> np.ndarray:
    return np.array([0, len(windows.tokens)]) if windows.bounds is None else windows.bounds


@settings(max_examples=60, deadline=None)
@given(windows=texts(), size=st.integers(1, 7))
def test_windows_in_order_ask_for_every_token_but_the_first_of_a_document_once(windows: Windows, size: int) -> None:
    targets = []
    for x, y in windows.batches(size):
        assert x.shape == y.shape
        assert (x.dtype, y.dtype) == (torch.int64, torch.int64)
        counts = y != NO_CLASS
        assert torch.equal(y[counts], x[counts] + 1)  # the token that follows
        assert int(x.min()) >= 0  # NO_CLASS is for targets alone, in a batch of one window too
        targets += y[counts].tolist()
    assert targets == sorted(set(range(len(windows.tokens))) - {*bounds_of(windows)[:-1].tolist()})


@settings(max_examples=60, deadline=None)
@given(windows=texts(), seed=st.integers(0, 10**6), size=st.integers(1, 7))
def test_drawn_windows_never_leave_their_document_and_are_whole_where_it_is_long(
    windows: Windows, seed: int, size: int
) -> None:
    bounds, number = bounds_of(windows), 0
    for x, y in windows.batches(size, seed):
        for inputs, targets in zip(x, y, strict=True):
            counts = targets != NO_CLASS
            document = np.searchsorted(bounds, int(inputs[0]), side="right")
            assert torch.equal(targets[counts], inputs[counts] + 1)
            assert (inputs[int(counts.sum()) :] >= inputs[0]).all()  # beyond the end they repeat the last token
            assert int(targets[counts].max()) < bounds[document]
            is_long = bounds[document] - bounds[document - 1] > windows.context
            assert not is_long or bool(counts.all())
            number += 1
    assert number == windows.count(size, True) * size or len(windows) < size


@settings(max_examples=60, deadline=None)
@given(windows=texts(), seed=st.none() | st.integers(0, 99), size=st.integers(1, 5), first=st.integers(0, 6))
def test_an_epoch_is_entered_anywhere_with_the_same_batches(
    windows: Windows, seed: int | None, size: int, first: int
) -> None:
    skipped = list(islice(windows.batches(size, seed), first, None))
    entered = list(windows.batches(size, seed, first))
    assert len(skipped) == len(entered)
    for one, other in zip(skipped, entered, strict=True):
        assert all(map(torch.equal, one, other))


def test_an_epoch_covers_the_text_and_another_seed_draws_others() -> None:
    windows = Windows(np.arange(1000, dtype=np.int16), 10, "key")
    targets = torch.cat([y.flatten() for _, y in windows.batches(4, seed=1)])
    assert len(windows) == 100
    assert len(targets.unique()) > 980  # all but an offset at the beginning
    again, other = (torch.cat([y.flatten() for _, y in windows.batches(4, seed=s)]) for s in (1, 2))
    assert torch.equal(targets, again)
    assert not torch.equal(targets, other)


@pytest.mark.parametrize("limit", [1, 7, 100, 250])
def test_an_epoch_has_as_many_windows_as_are_wanted(limit: int) -> None:
    windows = Windows(np.arange(1000, dtype=np.int16), 10, "key", limit)
    drawn = torch.cat([x for x, _ in windows.batches(1, seed=0)])
    assert len(drawn) == len(windows) == limit
    assert windows.count(4, True) == max(limit // 4, 1)
    ordered = torch.cat([x for x, _ in windows.batches(4)])
    assert len(ordered) == min(limit, 100)
    assert torch.equal(ordered[:, 0], ordered[:, 0].sort().values)
    if 1 < limit <= 100:  # evenly over the whole text
        assert (int(ordered[0, 0]), int(ordered[-1, 0])) == (0, 990)


def test_processes_share_a_batch_and_leave_nothing_out() -> None:
    windows = Windows(np.arange(1000, dtype=np.int16), 10, "key")
    whole = next(iter(windows.batches(8, seed=3)))
    shares = [next(iter(windows.batches(8, seed=3, share=slice(rank, None, 3)))) for rank in range(3)]
    assert sorted(whole[0][:, 0].tolist()) == sorted(x for share in shares for x in share[0][:, 0].tolist())


@settings(max_examples=60, deadline=None)
@given(windows=texts(), share=st.floats(0.05, 0.9))
def test_what_is_held_out_is_never_trained_on(windows: Windows, share: float) -> None:
    if windows.bounds is not None and len(windows.bounds) < 3:
        return
    if windows.bounds is None and not 2 <= round(share * len(windows.tokens)) <= len(windows.tokens) - 2:
        return
    rest, aside = windows.held_out(share)
    assert len(rest.tokens) + len(aside.tokens) == len(windows.tokens)
    assert not {*rest.tokens.tolist()} & {*aside.tokens.tolist()}
    assert bounds_of(rest)[-1] == len(rest.tokens)
    assert bounds_of(aside)[-1] == len(aside.tokens)
    assert len({rest.key, aside.key, windows.key}) == 3
