"""Similarity matching."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minimand.layers.heads import PredictionSimilarity, auxiliary, similarity


def test_similarities_are_correlations() -> None:
    z = torch.randn(6, 20, dtype=torch.double)
    torch.testing.assert_close(similarity(z), torch.corrcoef(z))
    maps = torch.randn(5, 7, 4, 4, dtype=torch.double)
    torch.testing.assert_close(similarity(maps), torch.corrcoef(maps.std((2, 3))))
    assert similarity(torch.randn(5, 7, 1, 1)).isfinite().all()


def test_the_loss_is_the_published_mixture_and_teaches_both_parts() -> None:
    head = auxiliary("predsim", (4, 6, 6), 3, norm=False).double()
    assert isinstance(head, PredictionSimilarity)
    x, y = torch.randn(8, 4, 6, 6, dtype=torch.double), torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])
    loss = F.cross_entropy(head(x), y)
    one_hot = F.one_hot(y, 3).double()
    difference = torch.corrcoef(head.similar(x).std((2, 3))) - torch.corrcoef(one_hot)
    mixed = head.mixed(loss, head.similar(x), y, 3)
    torch.testing.assert_close(mixed, 0.01 * loss + 0.99 * difference.square().mean())
    torch.testing.assert_close(head.mixed(loss, head.similar(x), one_hot, 3), mixed)
    mixed.backward()
    assert all(p.grad is not None and p.grad.any() for p in head.similar.parameters() if p.ndim > 1)
    assert all(p.grad is not None for p in head.classifier.parameters())


def test_features_like_their_classes_cost_nothing() -> None:
    head = PredictionSimilarity(nn.Linear(3, 3), nn.Identity())
    y = torch.tensor([0, 1, 2, 1])
    assert head.mixed(torch.zeros(()), F.one_hot(y, 3).float(), y, 3) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="one number each; expected classes"):
        head.mixed(torch.zeros(()), torch.randn(4, 3), torch.randn(4), 1)
