"""What the families of language models share: tables of tokens and positions, the head, the weights at the start."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...blocks.attention import KeyValueCache
from ...blocks.transformer import norm_without_bias
from ..info import Block, Parts
from ..splitting import Layer

Embedding = Literal["one", "normalized", "sum", "normalized_sum"]
"""What layers are given of tokens with the embedding e, and where it says so another embedding v of tables of its own:
e, LN(e), e + v or e + LN(v), LN a layer normalization without bias. A tied head is tied to e."""

_STD = 0.02


class Table(nn.Module):
    """The embedding of tokens, with learned positions where there are any: (N, tokens) to (N, tokens, width)."""

    def __init__(self, num_tokens: int, width: int, context: int | None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, width)
        self.positions = None if context is None else nn.Embedding(context, width)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """The embedding of tokens of which the first has the position `start`."""
        x = self.tokens(tokens)
        if self.positions is None:
            return x
        return x + self.positions(torch.arange(start, start + tokens.shape[1], device=tokens.device))


class TokenStem(nn.Module):
    """Tokens (N, tokens) to what the layers are given, (N, tokens, width), or a pair of it and a second input.

    Args:
        table: makes a table; each embedding has one of its own.
        embedding: what is made of the embeddings.
        inputs: 2 for an algorithm whose start has a second input.
        dropout: the probability with which training drops an entry of an embedding.
    """

    cache: KeyValueCache | None = None
    """What tells the position of the first token, while a text is generated."""

    def __init__(
        self, num_tokens: int, width: int, context: int | None, embedding: Embedding, inputs: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        adds = embedding in ("sum", "normalized_sum")
        if inputs == 2 and adds:
            raise MinimandError(
                f"embedding is {embedding!r}, but the algorithm has a second input, which takes the second table; "
                "expected 'one' or 'normalized'."
            )
        self.gives_two, self.adds = inputs == 2, adds
        self.table = Table(num_tokens, width, context)
        self.second = Table(num_tokens, width, context) if adds or self.gives_two else None
        self.norm = norm_without_bias(width)() if embedding.startswith("normalized") else None
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, tokens: Tensor) -> Any:
        start = 0 if self.cache is None else self.cache.length
        x = self.table(tokens, start)
        v = None if self.second is None else self.second(tokens, start)
        if self.norm is not None:
            x, v = (x, self.norm(v)) if self.adds else (self.norm(x), v)
        if v is not None and not self.gives_two:
            x, v = x + v, None
        if self.dropout is not None:
            x, v = self.dropout(x), None if v is None else self.dropout(v)
        return x if v is None else (x, v)


def language_parts(
    stem: TokenStem, layers: Sequence[Layer], blocks: Sequence[Block], norm: nn.Module, tied: bool
) -> Parts:
    """The parts of a language model; a tied head has the table of tokens for its weight.

    Weights are drawn as GPT-2's: of deviation 0.02, the last one of each of the 2 L branches over sqrt(2 L).
    """
    num_tokens, width = stem.table.tokens.weight.shape
    classifier = nn.Linear(width, num_tokens, bias=False)
    branches = [branch for layer in layers for branch in layer]
    ends = {id(end) for branch in branches for end in (getattr(branch.inner, name, None) for name in _ENDS)}
    with torch.no_grad():
        for module in _modules(stem, *branches, classifier):
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_STD / (math.sqrt(len(branches)) if id(module) in ends else 1))
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    if tied:
        classifier.weight = stem.table.tokens.weight
    head = nn.Sequential(norm, classifier)
    return Parts(stem, [(None, blocks)], head, normalize=norm_without_bias(width))


_ENDS = ("project", "contract")


def _modules(*parents: nn.Module) -> Iterator[nn.Module]:
    for parent in parents:
        yield from parent.modules()


def check_heads(width: int, heads: int, key_value_heads: int | None = None) -> None:
    """Raise MinimandError unless heads share the width, and keys and values the heads."""
    if width % heads:
        raise MinimandError(f"width is {width}; expected a multiple of heads = {heads}.")
    if key_value_heads is not None and heads % key_value_heads:
        raise MinimandError(f"key_value_heads is {key_value_heads}; expected a divisor of heads = {heads}.")


def check_tokens(name: str, tokens: Tensor, context: int, num_tokens: int, values: bool = True) -> None:
    """Raise MinimandError unless a batch is of tokens (N, T) that a model of a context and a vocabulary takes.

    Their values are looked at where `values` says so and that costs no waiting for a GPU.
    """
    expected = f"expected int64 tokens (N, T) with T of at most context = {context}"
    if tokens.dtype != torch.int64 or tokens.ndim != 2:
        kind = str(tokens.dtype).removeprefix("torch.")
        raise MinimandError(f"{name} was given {kind} of the shape {tuple(tokens.shape)}; {expected}.")
    if not 1 <= tokens.shape[1] <= context:
        raise MinimandError(
            f"{name} was given {tokens.shape[1]} tokens in a row; {expected}. Create the model with a longer context, "
            "or take windows."
        )
    if values and tokens.device.type == "cpu" and tokens.numel():
        low, high = (int(end) for end in tokens.aminmax())
        if low < 0 or high >= num_tokens:
            outside = low if low < 0 else high
            raise MinimandError(
                f"{name} was given the token {outside}; expected 0 to {num_tokens - 1}, as its num_tokens is "
                f"{num_tokens}."
            )
