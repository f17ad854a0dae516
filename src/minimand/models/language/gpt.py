"""GPT-2 (Radford et al. 2019): learned positions, GELU, layer normalization, the head tied to the table of tokens."""

from collections.abc import Sequence

from torch import nn

from ...blocks.attention import Attention
from ...blocks.transformer import Map, TransformerBranch, norm_without_bias
from ...theory.kernel import Binding
from ...theory.splitting import Splitting
from ..info import ModelInfo, Parts, register
from ..splitting import split
from .parts import Embedding, TokenStem, check_heads, language_parts


def gpt(
    *,
    num_tokens: int,
    context: int,
    width: int,
    depth: int,
    heads: int,
    splitting: Splitting | None,
    tied: bool,
    embedding: Embedding,
    normalize_branches: bool,
    epsilon: float,
    dropout: float,
    oracles: Sequence[str],
    binding: Binding,
    inputs: int = 1,
) -> Parts:
    """One stage of `depth` layers of causal attention and a map, of `width` channels, for `context` tokens.

    `tied` says whether the head has the table of tokens for its weight, `normalize_branches` whether a layer
    normalization without bias follows each branch (Peri-LN); `epsilon` is what all the others add to a variance.
    `dropout` is the probability with which training drops entries of embeddings, attention and branches' answers.
    """
    check_heads(width, heads)

    def branch(inner: nn.Module) -> TransformerBranch:
        after = norm_without_bias(width)() if normalize_branches else None
        return TransformerBranch(nn.LayerNorm(width, eps=epsilon), inner, normalize=after, dropout=dropout)

    layers = [
        (
            branch(Attention(width, heads, causal=True, dropout=dropout)),
            branch(Map(width, 4 * width, nn.GELU(approximate="tanh"))),
        )
        for _ in range(depth)
    ]
    blocks = split(layers, splitting, "lie_trotter", oracles, binding)
    stem = TokenStem(num_tokens, width, context, embedding, inputs, dropout)
    return language_parts(stem, layers, blocks, nn.LayerNorm(width, eps=epsilon), tied)


for _name, _width, _depth, _heads, _tokens, _context in (
    ("gpt_nano", 128, 4, 4, 256, 64),
    ("gpt2", 768, 12, 12, 50257, 1024),
    ("gpt2_medium", 1024, 24, 16, 50257, 1024),
):
    _line = f"GPT-2 of {_depth} layers, {_width} channels, {_heads} heads; attention and the map are steps in turns"
    _settings = {"num_tokens": _tokens, "context": _context, "width": _width, "depth": _depth, "heads": _heads}
    _settings |= {"splitting": None, "tied": True, "embedding": "one", "normalize_branches": False, "epsilon": 1e-5}
    _settings["dropout"] = 0.0
    _info = {"takes_tokens": True, "multiples": {"width": _heads}}
    register(ModelInfo(_name, _line, gpt, _settings, "residual", ("radford2019gpt2",), **_info))
