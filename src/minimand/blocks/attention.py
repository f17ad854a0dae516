"""Self-attention: of every token to all, or to those before it, with keys and values that can be remembered."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyValueCache:
    """Keys and values of the tokens so far, an entry for each call of an attention in a pass through a network.

    A pass makes the same calls in the same order, so that the n-th call of each pass has the n-th entry: a block that
    is asked twice in a layer has two.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        """The number of tokens that there is room for."""
        self.length = 0
        """The number of tokens of former passes."""
        self._entries: list[tuple[Tensor, Tensor]] = []
        self._call = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values (N, heads, tokens, d) of this call in all passes, from those of new tokens."""
        if self._call == len(self._entries):
            shape = (*keys.shape[:2], self.capacity, keys.shape[-1])
            self._entries.append((keys.new_empty(shape), values.new_empty(shape)))
        all_keys, all_values = self._entries[self._call]
        self._call += 1
        end = self.length + keys.shape[2]
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def end_pass(self, tokens: int) -> None:
        """Count the new tokens of a pass that has ended."""
        self.length += tokens
        self._call = 0


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): entries i and i + d / 2 of a head are turned by position / base^(2 i / d)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head: int, context: int, base: float = 10000.0) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(context).float(), base ** -(torch.arange(0, head, 2).float() / head))
        both = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", both.cos(), persistent=False)
        self.register_buffer("sin", both.sin(), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Turn (N, heads, tokens, d), whose first token is at the position `start`."""
        end = start + x.shape[-2]
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos[start:end].to(x.dtype), self.sin[start:end].to(x.dtype)
        return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Multi-head self-attention: (N, tokens, C) to the same.

    Args:
        channels: C, a multiple of `heads`.
        heads: the number of heads.
        key_value_heads: the number of heads of keys and values, a divisor of `heads`; by default as many.
        bias: whether the two linear layers have biases.
        causal: whether a token attends to itself and those before it alone.
        rotary: turns queries and keys by their positions.
        dropout: the probability with which training drops what a token attends to.
    """

    cache: KeyValueCache | None = None
    """Where keys and values are remembered, while a text is generated."""
    scale: Tensor | None
    """A factor on what the softmax is taken of, beside 1 / sqrt(d) for heads of d channels; scaling rules set one."""

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        key_value_heads: int | None = None,
        bias: bool = True,
        causal: bool = False,
        rotary: Rotary | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        key_value_heads = key_value_heads or heads
        self.head, self.causal, self.rotary = channels // heads, causal, rotary
        self.is_grouped = key_value_heads != heads
        self.sizes = [self.head * count for count in (heads, key_value_heads, key_value_heads)]
        self.qkv = nn.Linear(channels, sum(self.sizes), bias)
        self.project = nn.Linear(channels, channels, bias)
        # A module, as whatever turns dropout off, or asks whether there is any, looks for those.
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).split(self.sizes, dim=-1)
        q, k, v = (part.unflatten(-1, (-1, self.head)).transpose(1, 2) for part in parts)
        cache = self.cache
        start = 0 if cache is None else cache.length
        if self.rotary is not None:
            q, k = self.rotary(q, start), self.rotary(k, start)
        if self.scale is not None:
            q = q * self.scale
        if cache is not None:
            k, v = cache.extend(k, v)
        new = q.shape[2]
        # A single token attends to all so far; several after others need a mask of their own.
        mask = _later(new, k.shape[2], q.device) if self.causal and start and new > 1 else None
        causal = self.causal and not start and new > 1
        p = self.dropout.p if self.dropout is not None and self.dropout.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, p, causal, enable_gqa=self.is_grouped)
        return self.project(mixed.transpose(1, 2).flatten(2))


def _later(new: int, tokens: int, device: torch.device) -> Tensor:
    """Which of all tokens each of the last `new` ones attends to: itself and those before it."""
    return torch.ones(new, tokens, dtype=torch.bool, device=device).tril(tokens - new)
