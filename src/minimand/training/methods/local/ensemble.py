"""The ensemble of the classifiers of all blocks (Belilovsky et al. 2019)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ....networks.protocol import Network

Averaged = Literal["logits", "probabilities"]


class Ensemble(nn.Module):
    """The outputs of classifiers j = 0, 1, ... of a network, the head last, averaged with weights 2^j / sum 2^i.

    Classifiers `heads` look after the layers `ends`. What is `averaged` are outputs themselves, as published for
    CIFAR-10, or probabilities of classes, as for ImageNet; the output is then their logarithm.
    """

    def __init__(
        self, model: nn.Module, network: Network, ends: Sequence[int], heads: nn.ModuleList, averaged: Averaged
    ) -> None:
        super().__init__()
        self.model, self.heads, self.averaged = model, heads, averaged
        self._network = (network,)  # so that nothing has two names
        self._ends = tuple(ends)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to (N, outputs)."""
        outputs = torch.stack(self.outputs(x)).float()
        if self.averaged == "probabilities":
            outputs = outputs.softmax(2)
        weights = 2.0 ** torch.arange(len(outputs), device=x.device)
        mean = torch.tensordot(weights / weights.sum(), outputs, 1)
        return mean if self.averaged == "logits" else mean.clamp_min(torch.finfo(mean.dtype).tiny).log()

    def outputs(self, x: Tensor) -> list[Tensor]:
        """The outputs of each classifier, the network's own head last."""
        (network,) = self._network
        state: Any = network.stem(x)
        outputs: list[Tensor] = []
        for j, layer in enumerate(network.layers):
            state = layer(state)
            if j in self._ends:
                outputs.append(self.heads[len(outputs)](network.read(j, state)))
        return [*outputs, network.head(state)]
