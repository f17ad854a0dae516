"""Text that goes on where a prompt ends, from the language model of a run."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.errors import MinimandError, WrongTypeError
from .._support.torch.modes import evaluation_mode
from ..data import call, tensor_of
from ..data.data import Text
from ..models import UnrolledNetwork
from ..training.fit import check_seed


def generate_text(
    model: nn.Module,
    text: Text,
    context: int,
    prompt: str,
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """A prompt and the text that a language model draws after it, token by token.

    Args:
        model: token ids (N, T), T at most the context, to logits (N, T, tokens).
        context: the tokens that the model sees at once: the last ones.
        tokens: the number of tokens to draw; after the end of a document none is drawn.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: the number of likeliest tokens that are drawn from; None for all.
        seed: decides what is drawn.

    Raises:
        MinimandError: an empty prompt, one with a symbol that has no token, settings out of range.
    """
    if not isinstance(prompt, str):
        raise WrongTypeError(f"prompt is {type(prompt).__name__}; expected text.")
    check_number("tokens", tokens, 1, math.inf, whole=True)
    check_number("temperature", temperature, 0, math.inf, below=True)
    if top_k is not None:
        check_number("top_k", top_k, 1, math.inf, whole=True)
    check_seed(seed)
    tokenizer = text.tokenizer
    if not prompt:
        raise MinimandError("prompt is empty; expected some text to go on from, such as a line break.")
    try:
        begun = tokenizer.encode(prompt).tolist()
    except MinimandError as error:
        raise MinimandError(f"prompt is {prompt!r}, but {error}") from None
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    settings = {"temperature": temperature, "top_k": top_k, "generator": generator}
    ids = torch.tensor([begun], device=device)
    if _generates(model, context):
        drawn = cast(Any, model).generate(ids, tokens, **settings)
    else:
        drawn = _drawn(model, ids, tokens, context, settings)
    new = drawn[0, len(begun) :].tolist()
    if tokenizer.separator in new:
        new = new[: new.index(tokenizer.separator)]
    return tokenizer.decode(begun + new)


def _generates(model: nn.Module, context: int) -> bool:
    """Whether a model draws tokens itself, which remembers keys and values; of a longer context none was trained."""
    return isinstance(model, UnrolledNetwork) and model.input_shape == (context,)


@torch.no_grad()
def _drawn(model: nn.Module, ids: Tensor, count: int, context: int, settings: dict[str, Any]) -> Tensor:
    """Token ids (1, T) and as many more, of a model that looks at each window anew."""
    with evaluation_mode(model):
        for _ in range(count):
            logits = tensor_of(call(model, ids[:, -context:]))[:, -1].float()
            if settings["temperature"] == 0:
                new = logits.argmax(-1, keepdim=True)
            else:
                logits /= settings["temperature"]
                if (top_k := settings["top_k"]) is not None and top_k < logits.shape[-1]:
                    logits[logits < logits.topk(top_k).values[:, -1:]] = -math.inf
                new = torch.multinomial(logits.softmax(-1), 1, generator=settings["generator"])
            ids = torch.cat([ids, new], 1)
    return ids
