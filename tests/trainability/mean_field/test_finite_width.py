import numpy as np
import pytest
from torch import nn

import minimand as mm


def test_lengths_of_relu_networks_scatter_by_the_law_of_beta() -> None:
    """E |h|^4 / (E |h|^2)^2 = (1 + 5/n)^L, the median and the spread of the logarithm (facts 1.4), drawn in law."""
    width, depth, draws = 50, 10, 20_000
    rng, length = np.random.default_rng(0), np.ones(20_000)
    for _ in range(depth):
        z = rng.standard_normal((draws, width)) * np.sqrt(2 * length / width)[:, None]
        length = np.square(np.maximum(z, 0)).sum(1)
    fourth, square = np.square(length), length
    ratio = fourth.mean() / square.mean() ** 2
    influence = fourth / square.mean() ** 2 - 2 * ratio * square / square.mean()
    assert abs(ratio - (1 + 5 / width) ** depth) < 3 * influence.std() / draws**0.5
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)), nn.Linear(width, 1))
    beta = mm.trainability.fluctuation_beta(model)
    assert np.median(length) == pytest.approx(np.exp(-2.5 * beta), rel=0.05)
    assert np.log(length).var() == pytest.approx(5 * beta, rel=0.15)


def test_beta_sums_over_hidden_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 20), nn.ReLU(), nn.Linear(20, 2))
    assert mm.trainability.fluctuation_beta(model) == pytest.approx(1 / 8 + 1 / 20)
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        mm.trainability.fluctuation_beta(nn.ReLU())
