"""Similarity matching, a loss of a layer's own (Nokland & Eidnes 2019; recalled, not read again)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError


class PredictionSimilarity(nn.Module):
    """The head "predsim": a classifier, and a map of its own that makes samples as alike as their classes.

    Args:
        classifier: a map from the output of a layer, (N, D), (N, T, D) or (N, C, H, W), to outputs.
        similar: a map from the same to the features that samples are compared by.
        share: the share of the similarity in the loss; 0.99 as published.
    """

    references: ClassVar = ("nokland2019",)

    def __init__(self, classifier: nn.Module, similar: nn.Module, share: float = 0.99) -> None:
        super().__init__()
        self.classifier, self.similar, self.share = classifier, similar, share

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def mixed(self, loss: Tensor, z: Tensor, y: Tensor, num_outputs: int) -> Tensor:
        """The loss of the head: (1 - share) loss + share times the mean squared difference of similarities.

        The difference is that of the similarities of samples and of targets.

        Args:
            loss: the loss of the classifier.
            z: the features of the samples, from the map `similar`.
            y: classes (N,), or targets (N, d) such as mixed classes.
            num_outputs: the number of classes.

        Raises:
            MinimandError: targets that are one number each, whose similarity says nothing.
        """
        if y.ndim < 2 and y.is_floating_point():
            raise MinimandError("the targets are one number each; expected classes, which 'predsim' can compare.")
        targets = y if y.ndim > 1 else F.one_hot(y, num_outputs)
        difference = F.mse_loss(similarity(z), similarity(targets.to(z.dtype)))
        return torch.lerp(loss, difference.to(loss.dtype), self.share)


def similarity(z: Tensor) -> Tensor:
    """The correlations (N, N) of samples by the entries of (N, D), or the deviations over the map of (N, C, H, W)."""
    z = z.flatten(2).std(2) if z.ndim > 2 and z[0, 0].numel() > 1 else z.flatten(1)
    z = F.normalize(z - z.mean(1, keepdim=True), dim=1)
    return z @ z.T
