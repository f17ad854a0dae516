"""U7 as code: attention and maps of tokens that compute a shallow network of attention, by coupling steps.

A token holds its input u, a feature e, a preactivation y and the output. A map sets e to a feature, attention with
query = key = 0 adds its mean over the visible tokens to y, and when all features are in, a map adds a neuron of u and y
to the output. What e and y held before is taken back by adding differences. (docs/understand/universality.md)
"""

from typing import Any

import torch
from torch import Tensor, nn

from ...algorithms import Algorithm
from ...blocks.attention import Attention
from ...blocks.transformer import Map
from ..kernel import Binding
from ..splitting import Splitting
from .coupling import Block, Shear, coupled
from .shallow_convolution import check_positive


class ShallowAttention(nn.Module):
    """F(u)_p = sum_i a_i act(c_i + w_i u_p + sum_k v_ik mean_q act(w_ik u_q + b_ik)), q over the visible tokens.

    Inputs are (N, tokens, in_channels), outputs (N, tokens, out_channels).

    Args:
        in_channels: the numbers in a token.
        out_channels: the numbers in a token of the output.
        neurons: the number of neurons i.
        features: the number of features k of each neuron.
        activation: acts number by number; ReLU by default.
        causal: whether a token sees itself and those before it alone, or all.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neurons: int,
        features: int,
        activation: nn.Module | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, neurons=neurons, features=features)
        self.activation, self.causal = activation or nn.ReLU(), causal
        self.weight, self.bias = nn.Parameter(torch.randn(neurons, in_channels)), nn.Parameter(torch.randn(neurons))
        self.outgoing = nn.Parameter(torch.randn(out_channels, neurons) / neurons)
        self.mixing = nn.Parameter(torch.randn(neurons, features))
        self.feature_weight = nn.Parameter(torch.randn(neurons, features, in_channels))
        self.feature_bias = nn.Parameter(torch.randn(neurons, features))

    def forward(self, u: Tensor) -> Tensor:
        """The outputs of the shallow network for all tokens of u, (N, tokens, channels)."""
        features = self.activation(torch.einsum("ikc,bqc->bqik", self.feature_weight, u) + self.feature_bias)
        if self.causal:
            visible = torch.arange(1, u.shape[1] + 1, dtype=u.dtype, device=u.device)
            means = features.cumsum(dim=1) / visible[:, None, None]
        else:
            means = features.mean(dim=1, keepdim=True)
        mixed = torch.einsum("ik,bpik->bpi", self.mixing, means)
        return self.activation(u @ self.weight.T + self.bias + mixed) @ self.outgoing.T


def token_parts(
    shallow: ShallowAttention, algorithm: Algorithm, binding: Binding, splitting: Splitting | None
) -> tuple[nn.Module, list[Block], nn.Module]:
    """The stem, the blocks and the head of the deep network of a shallow one of attention."""
    d_out, neurons = shallow.outgoing.shape
    d_in = shallow.weight.shape[1]
    like: dict[str, Any] = {"device": shallow.weight.device, "dtype": shallow.weight.dtype}
    eye = torch.eye(d_in + 2 + d_out, **like)
    stem, head = nn.Linear(d_in, len(eye), bias=False, **like), nn.Linear(len(eye), d_out, bias=False, **like)
    with torch.no_grad():
        stem.weight.copy_(eye[:, :d_in])
        head.weight.copy_(eye[d_in + 2 :])
        written = _Tokens(shallow, eye)
        for i in range(neurons):
            written.neuron(i)
        blocks = coupled(algorithm, binding, written.shears, splitting)
    return stem, blocks, head


class _Tokens:
    """The shears that write neurons one after another."""

    def __init__(self, shallow: ShallowAttention, eye: Tensor) -> None:
        self.shallow, self.eye = shallow, eye
        self.d_in = shallow.weight.shape[1]
        self.shears: list[Shear] = []
        self.feature: tuple[int, int] | None = None  # the feature that e holds: its neuron and its number

    def neuron(self, i: int) -> None:
        """Bring y to neuron i's preactivation, and add the neuron to the output."""
        shallow = self.shallow
        features = shallow.mixing.shape[1]
        if i:
            for k in range(features):
                self._mean(i - 1, k, -1)
        for k in range(features):
            self._mean(i, k, 1)
        incoming = shallow.weight[i] @ self.eye[: self.d_in] + self.eye[self.d_in + 1]
        outgoing = shallow.outgoing[:, i] @ self.eye[self.d_in + 2 :]
        self._map(incoming[None], shallow.bias[i : i + 1], outgoing[:, None])

    def _mean(self, i: int, k: int, sign: int) -> None:
        """Add the mean of a feature, or take it back, to y; the feature comes to e first."""
        new = [(i, k)] + ([self.feature] if self.feature else [])
        incoming = torch.stack([self.shallow.feature_weight[j] @ self.eye[: self.d_in] for j in new])
        bias = torch.stack([self.shallow.feature_bias[j] for j in new])
        e, y = self.eye[self.d_in], self.d_in + 1
        if self.feature != (i, k):
            self._map(incoming, bias, torch.stack([e, -e][: len(new)], dim=1))
        self.feature = i, k
        value = sign * self.shallow.mixing[i, k]
        self.shears.append(Shear("attention", lambda weight: self._attention(e, y, weight * value)))

    def _map(self, incoming: Tensor, bias: Tensor, outgoing: Tensor) -> None:
        def times(weight: float) -> nn.Module:
            block = Map(len(self.eye), len(incoming), self.shallow.activation).to(self.eye)
            block.expand.weight.copy_(incoming)
            block.expand.bias.copy_(bias)
            block.contract.weight.copy_(weight * outgoing)
            block.contract.bias.zero_()
            return block

        self.shears.append(Shear("map", times))

    def _attention(self, reads: Tensor, writes: int, weight: Tensor) -> nn.Module:
        """One head of one channel, whose query and key are 0, so that it takes the mean of what it reads."""
        width = len(self.eye)
        block = Attention(width, width, causal=self.shallow.causal).to(self.eye)
        for parameter in block.parameters():
            parameter.zero_()
        block.qkv.weight[2 * width] = reads
        block.project.weight[writes, 0] = weight
        return block
