"""Transformers that normalize after the sum, or not at all."""

import math
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...._support.errors import MinimandError
from ...._support.torch.internals import make_picklable
from ....networks.kinds import NORMALIZATIONS, normalizations
from ..scheme import Job, scheme
from ..weighted_layers import WeightBlock, WeightedLayer
from ..weights import parametrized_by

_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_LEAVES = ("self_attn", "multihead_attn", "linear1", "linear2")


class Divided(nn.Module):
    """A parametrization: a weight, or a bias, over a fixed number."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, value: Tensor) -> Tensor:
        return value / self.by

    def right_inverse(self, value: Tensor) -> Tensor:
        """The parameter from which `forward` makes this value."""
        return value * self.by


@scheme("deepnorm", traced=False, references=("wang2022deepnet",))
def deepnorm(job: Job) -> None:
    """LN(alpha x + F(x)), and Xavier with gain beta for values, attention's output and the linear layers.

    alpha = (2 N)^(1/4) and beta = (8 N)^(-1/4) for N layers of an encoder, or of one that is a decoder by its mask.
    Beside M layers of nn.TransformerDecoderLayer they are 0.81 (N^4 M)^(1/16) and 0.87 (N^4 M)^(-1/16), and in those
    M layers (3 M)^(1/4) and (12 M)^(-1/4) (Wang et al., 2022). As LN(alpha x + F) = LN(x + F / alpha), the last weight
    and bias of each branch are divided by alpha from now on: the state dict changes, so initialize before you make the
    optimizer. All other layers are Xavier.
    """
    parts = {name: m for name, m in job.model.named_modules() if isinstance(m, _LAYERS)}
    first = [name for name, part in parts.items() if part.norm_first]
    bare = [name for name, part in parts.items() if not isinstance(part.norm1, NORMALIZATIONS)]
    if not parts or first or bare:
        raise MinimandError(
            "deepnorm sets nn.TransformerEncoderLayer and nn.TransformerDecoderLayer with norm_first=False; "
            + (f"{first[0] or 'the model'} normalizes first. Use 'depth' or 'skipinit'." if first else "")
            + (f"{bare[0] or 'the model'} does not normalize. Use 'tfixup'." if bare and not first else "")
            + ("the model has none. Use 'depth' or 'skipinit'." if not parts else "")
        )
    encoders = sum(isinstance(part, nn.TransformerEncoderLayer) for part in parts.values())
    decoders = len(parts) - encoders
    both = (encoders**4 * decoders) ** (1 / 16)
    factors = {
        _LAYERS[0]: (0.81 * both, 0.87 / both) if both else ((2 * encoders) ** 0.25, (8 * max(encoders, 1)) ** -0.25),
        _LAYERS[1]: ((3 * decoders) ** 0.25, (12 * max(decoders, 1)) ** -0.25),
    }
    names = {layer.name: layer for layer in job.layers}
    inside = {
        f"{name}.{leaf}".removeprefix("."): (leaf, *factors[_kind(part)])
        for name, part in parts.items()
        for leaf in _LEAVES
        if hasattr(part, leaf)
    }
    missing = sorted(inside.keys() - names.keys())
    if missing:
        raise MinimandError(f"deepnorm sets a transformer as a whole, and {', '.join(missing)} is excluded.")
    for name, layer in names.items():
        _xavier(job, layer, inside[name][2] if name in inside else 1.0)
    for name, (leaf, alpha, _) in inside.items():
        if leaf != "linear1":
            _divide(job, f"{name}.out_proj" if "attn" in leaf else name, alpha)
    for kind, count in zip(_LAYERS, (encoders, decoders), strict=True):
        if count:
            job.notes.append(f"{count} {kind.__name__}: alpha {factors[kind][0]:.4g}, beta {factors[kind][1]:.4g}.")


@scheme("tfixup", traced=False, references=("huang2020tfixup",))
def tfixup(job: Job) -> None:
    """Transformers without normalization and without warm-up (Huang et al., 2020).

    Xavier; values, attention's output and the linear layers times 0.67 N^(-1/4) in N encoder layers and (9 N)^(-1/4) in
    N decoder layers; queries and keys over sqrt(2), as in the published code. Embeddings get the deviation
    (9 N)^(-1/4) / sqrt(d). Without a decoder, which the paper does not treat, that N is the encoder's: our choice.
    """
    parts = {name: m for name, m in job.model.named_modules() if isinstance(m, _LAYERS)}
    if not parts:
        raise MinimandError(
            "tfixup sets nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, and the model has none. Use "
            "'depth' or 'skipinit'."
        )
    norms = list(normalizations(job.model))
    if norms:
        raise MinimandError(
            f"tfixup takes the place of normalization, and {norms[0]} is one of {len(norms)}; take them out first: "
            "mm.normalize(model, 'none')."
        )
    encoders = sum(isinstance(part, nn.TransformerEncoderLayer) for part in parts.values())
    decoders = len(parts) - encoders
    gains = {_LAYERS[0]: 0.67 * max(encoders, 1) ** -0.25, _LAYERS[1]: (9 * max(decoders, 1)) ** -0.25}
    inside = {
        f"{name}.{leaf}".removeprefix("."): gains[_kind(part)] for name, part in parts.items() for leaf in _LEAVES
    }
    for layer in job.layers:
        _xavier(job, layer, inside.get(layer.name, 1.0), 0.5**0.5 if layer.name in inside else 1.0)
    for name, module in job.model.named_modules():
        if isinstance(module, nn.Embedding):
            _embed(job, name, module, (9 * (decoders or encoders)) ** -0.25 / math.sqrt(module.embedding_dim))
    job.notes.append(f"{encoders} encoder layers, {decoders} decoder layers: train without warm-up.")


def _kind(part: nn.Module) -> type[nn.Module]:
    return next(kind for kind in _LAYERS if isinstance(part, kind))


def _embed(job: Job, name: str, module: nn.Embedding, std: float) -> None:
    def fill(weight: Tensor) -> None:
        nn.init.normal_(weight, std=std, generator=job.generator)
        if module.padding_idx is not None:
            weight[module.padding_idx] = 0

    job.set(f"{name}.weight".removeprefix("."), f"std {std:.4g}", fill)


def _xavier(job: Job, layer: WeightedLayer, gain: float, query_gain: float = 1.0) -> None:
    """Set a layer by Xavier's rule times gain; queries and keys times `query_gain` instead."""

    def fill(weight: Tensor, block: WeightBlock) -> None:
        packed = block.parameter == "in_proj_weight" and block.rows.start < 2 * block.fan_out
        is_query_or_key = packed or block.parameter in ("q_proj_weight", "k_proj_weight")
        factor = query_gain if is_query_or_key else gain
        nn.init.normal_(weight, 0.0, factor * math.sqrt(2 / (block.fan_in + block.fan_out)), generator=job.generator)

    job.fill(layer, "gain^2 2 / (fan_in + fan_out)", fill, gain)


def _divide(job: Job, name: str, alpha: float) -> None:
    """Put a division by alpha behind the weight and bias of a layer, once, and divide them by it."""
    module = cast(nn.Linear, job.model.get_submodule(name))
    is_divided = any(isinstance(p, Divided) for p in parametrized_by(module, "weight"))
    for parameter in job.leaves(name):
        if not is_divided:
            parametrize.register_parametrization(module, parameter.rpartition(".")[2], Divided(alpha))
            make_picklable(module)
        job.multiply(parameter, 1 / alpha)
