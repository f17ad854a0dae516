"""Integers times a factor: whatever they are multiplied by, and whatever is added in between, comes off again."""

from typing import Any

import torch
from hypothesis import given, settings, strategies as st

from minimand.networks.memory.scaled import Scaled

SIZES = st.floats(1e-3, 4).flatmap(lambda size: st.sampled_from([size, -size]))
FACTORS = st.one_of(SIZES, st.lists(SIZES, min_size=3, max_size=3).map(torch.tensor))


@settings(max_examples=15)
@given(st.lists(FACTORS, max_size=12), st.integers(0, 99))
def test_products_and_sums_are_undone_to_the_last_bit(factors: list[Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(-(2**30), 2**30, (2, 3), generator=generator).double()
    numbers, added = Scaled(first.clone(), first.abs().amax()), []
    exact = first.clone()
    for factor in factors:
        numbers.multiply(factor)
        exact = exact * factor
        torch.testing.assert_close(numbers.values(), exact, rtol=0, atol=2)  # what is put aside is below 1
        term = torch.randint(-1000, 1000, (2, 3), generator=generator).double()
        numbers.whole = numbers.whole + term
        exact = numbers.values()
        added.append(term)
    tensors, unpacked = numbers.packed()
    for twin in (numbers, unpacked(tensors)):
        for term in reversed(added):
            twin.whole = twin.whole - term
            twin.undo()
        assert torch.equal(twin.whole, first)


def test_a_momentum_below_1_takes_as_many_bits_as_its_products_make_numbers_finer() -> None:
    """Momentum 0.9 over 500 steps: 76 bits, so 9 or 10 bytes."""
    numbers = Scaled(torch.zeros(5, dtype=torch.double), torch.zeros(()))
    for _ in range(500):
        numbers.multiply(0.9)
    _, *aside = numbers.packed()[0]
    assert 9 <= sum(x.element_size() for x in aside) <= 10
