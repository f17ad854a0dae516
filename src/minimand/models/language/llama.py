"""Llama (Touvron et al. 2023): rotary positions, SwiGLU, RMS normalization, grouped queries, no biases."""

from collections.abc import Sequence

from torch import nn

from ..._support.errors import MinimandError
from ...blocks.attention import Attention, Rotary
from ...blocks.transformer import Map, TransformerBranch
from ...theory.kernel import Binding
from ...theory.splitting import Splitting
from ..info import ModelInfo, Parts, register
from ..splitting import split
from .parts import Embedding, TokenStem, check_heads, language_parts


def llama(
    *,
    num_tokens: int,
    context: int,
    width: int,
    depth: int,
    heads: int,
    key_value_heads: int,
    hidden: int,
    splitting: Splitting | None,
    tied: bool,
    embedding: Embedding,
    epsilon: float,
    rotary_base: int,
    dropout: float,
    oracles: Sequence[str],
    binding: Binding,
    inputs: int = 1,
) -> Parts:
    """One stage of `depth` layers of causal attention and a gated map, of `width` channels, for `context` tokens.

    Queries have `heads` heads, keys and values `key_value_heads`; the map is `hidden` wide inside. `tied` says whether
    the head has the table of tokens for its weight; `epsilon` is what normalizations add to a mean square;
    `dropout` the probability with which training drops entries of embeddings, attention and branches' answers.
    """
    check_heads(width, heads, key_value_heads)
    if width // heads % 2:
        raise MinimandError(f"width is {width}, a head {width // heads} wide; expected an even one, turned in pairs.")

    def branch(inner: nn.Module) -> TransformerBranch:
        return TransformerBranch(nn.RMSNorm(width, eps=epsilon), inner, dropout=dropout)

    def attention() -> Attention:
        rotary = Rotary(width // heads, context, rotary_base)
        options = {"bias": False, "causal": True, "rotary": rotary, "dropout": dropout}
        return Attention(width, heads, key_value_heads=key_value_heads, **options)

    layers = [
        (branch(attention()), branch(Map(width, hidden, nn.SiLU(), bias=False, gated=True))) for _ in range(depth)
    ]
    blocks = split(layers, splitting, "lie_trotter", oracles, binding)
    stem = TokenStem(num_tokens, width, None, embedding, inputs, dropout)
    return language_parts(stem, layers, blocks, nn.RMSNorm(width, eps=epsilon), tied)


for _name, _width, _depth, _heads, _groups, _hidden, _tokens, _context, _sources in (
    ("llama_nano", 128, 4, 4, 2, 352, 256, 64, ()),
    ("llama_1b", 2048, 22, 32, 4, 5632, 32000, 2048, ("zhang2024tinyllama",)),
    ("llama2_7b", 4096, 32, 32, 32, 11008, 32000, 4096, ("touvron2023llama2",)),
):
    _line = f"Llama of {_depth} layers, {_width} channels, {_heads} heads, {_groups} of keys and values; "
    _line += "attention and the map are steps in turns"
    _settings = {"num_tokens": _tokens, "context": _context, "width": _width, "depth": _depth, "heads": _heads}
    _settings |= {"key_value_heads": _groups, "hidden": _hidden, "splitting": None, "tied": False, "embedding": "one"}
    _settings |= {"epsilon": 1e-5, "rotary_base": 10000, "dropout": 0.0}
    _info = {"takes_tokens": True, "multiples": {"width": 2 * _heads}}
    register(ModelInfo(_name, _line, llama, _settings, "residual", ("touvron2023llama", *_sources), **_info))
