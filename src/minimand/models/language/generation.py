"""Text from a language model: token after token, with keys and values remembered."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError
from ...blocks.attention import Attention, KeyValueCache
from .parts import TokenStem, check_tokens


@torch.no_grad()
def generate(
    model: Any,
    tokens: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    """The tokens with those that a language model puts behind them; see `UnrolledNetwork.generate`."""
    _check(model, tokens, max_new_tokens, temperature, top_k)
    (context,) = model.input_shape
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return _continued(model, tokens, int(max_new_tokens), context, temperature, top_k, generator)
    finally:
        for module, training in modes.items():
            module.training = training


def _continued(
    model: nn.Module,
    tokens: Tensor,
    count: int,
    context: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    start = tokens.shape[1]
    text = torch.cat([tokens, tokens.new_empty(len(tokens), count)], dim=1)
    with remembering(model, min(context, start + count)) as cache:
        for end in range(start, min(start + count, context + 1)):
            new = text[:, cache.length : end]
            logits = model(new)
            cache.end_pass(new.shape[1])
            text[:, end] = _drawn(logits[:, -1], temperature, top_k, generator)
    # Positions shift with the window, and with them every key.
    for end in range(max(start, context + 1), start + count):
        logits = model(text[:, end - context : end])
        text[:, end] = _drawn(logits[:, -1], temperature, top_k, generator)
    return text


@contextmanager
def remembering(model: nn.Module, capacity: int) -> Iterator[KeyValueCache]:
    """A context in which passes of a language model go on where the last one ended, for `capacity` tokens at most."""
    cache = KeyValueCache(capacity)
    modules = [module for module in model.modules() if isinstance(module, Attention | TokenStem)]
    for module in modules:
        module.cache = cache
    try:
        yield cache
    finally:
        for module in modules:
            module.cache = None


def _drawn(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> Tensor:
    """A token for each row of logits (N, num_tokens)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def _check(model: Any, tokens: Any, max_new_tokens: Any, temperature: Any, top_k: Any) -> None:
    name = model.info.name
    if not model.info.takes_tokens:
        raise MinimandError(f"{name} takes no tokens and generates none; expected a language model such as gpt_nano.")
    if not isinstance(tokens, Tensor):
        raise WrongTypeError(f"tokens is {type(tokens).__name__}; expected a tensor of int64 tokens (N, T).")
    check_number("max_new_tokens", max_new_tokens, 1, math.inf, whole=True)
    check_number("temperature", temperature, 0, math.inf, below=True)
    if top_k is not None:
        check_number("top_k", top_k, 1, math.inf, whole=True)
    longest = max(model.input_shape[0], tokens.shape[-1] if tokens.ndim else 0)
    check_tokens(name, tokens, longest, model.num_classes)
