import pytest
import torch

from minimand.layers.stochastic_depth import DropPath, growing_rates


def test_whole_samples_are_dropped_and_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.full((4000, 3, 2), 2.0, dtype=torch.double)
    factors = drop(x) / 2
    assert torch.equal(factors, factors[:, :1, :1].expand_as(x))
    survivors = factors[:, 0, 0] != 0
    torch.testing.assert_close(factors[survivors], torch.full_like(factors[survivors], 4 / 3))
    assert abs(float(survivors.double().mean()) - 0.75) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize(("blocks", "rates"), [(1, [0]), (2, [0, 0.3]), (4, [0, 0.1, 0.2, 0.3])])
def test_rates_grow_from_the_first_block_to_the_last(blocks: int, rates: list[float]) -> None:
    assert growing_rates(0.3, blocks) == pytest.approx(rates)
