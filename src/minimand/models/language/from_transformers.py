"""The weights of transformers' GPT-2 and Llama in our models; transformers itself is not needed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch.internals import uncompiled
from ...blocks.attention import Attention
from ...blocks.transformer import TransformerBranch
from ...surgery.changes import changes
from ..network import UnrolledNetwork

Model = TypeVar("Model", bound=UnrolledNetwork)
Weights = Mapping[str, Tensor]
Copies = Iterator[tuple[Tensor, Tensor]]


@torch.no_grad()
def from_transformers(model: Model, hf_model: nn.Module) -> Model:
    """Copy the weights of a `GPT2LMHeadModel` or a `LlamaForCausalLM` into one of ours, in place.

    With gradient descent and Lie-Trotter splitting the logits are then the same; other algorithms and splittings run
    the same branches another way. Learnable coefficients, and normalizations of velocities, stay as they are.

    Raises:
        MinimandError: another architecture or size; names every setting that differs; one of the two was changed by
            surgery, or ours by a scaling rule. Nothing is copied then.
    """
    if not isinstance(model, UnrolledNetwork):
        raise WrongTypeError(f"model is {type(model).__name__}; expected an mm.UnrolledNetwork of mm.create_model.")
    hf_model = uncompiled(hf_model) if isinstance(hf_model, nn.Module) else hf_model
    config: Any = getattr(hf_model, "config", None)
    kind = getattr(config, "model_type", None)
    name, theirs = model.info.name, type(hf_model).__name__
    if not isinstance(hf_model, nn.Module) or kind not in _FAMILIES:
        raise WrongTypeError(f"hf_model is {theirs}; expected a GPT2LMHeadModel or a LlamaForCausalLM of transformers.")
    weights: dict[str, Tensor] = hf_model.state_dict()
    if "lm_head.weight" not in weights:
        raise MinimandError(f"hf_model is {theirs}, which has no head; expected a GPT2LMHeadModel or LlamaForCausalLM.")
    family, settings_of, copies_of = _FAMILIES[kind]
    if not model.info.takes_tokens or ("rotary_base" in model.config) != (kind == "llama"):
        raise MinimandError(f"{name} is not the architecture of {theirs}; expected a model of the family {family}.")
    settings = {"embedding": "one", **settings_of(config)}
    if model.config["tied"]:
        settings["tied"] = torch.equal(weights["lm_head.weight"], weights[_TABLES[kind]])
    differing = {key: value for key, value in settings.items() if model.config.get(key, value) != value}
    if differing:
        here = ", ".join(f"{key}={model.config[key]!r}" for key in differing)
        there = ", ".join(f"{key}={value!r}" for key, value in differing.items())
        raise MinimandError(f"{name} has {here}; expected {there}, as {theirs} has it.")
    _check_unchanged(model, hf_model)
    try:
        copies = list(copies_of(model, weights))
    except KeyError as error:  # a parametrization, or an adapter
        raise MinimandError(f"{theirs} has no weight {error}; expected those of transformers' own layers.") from None
    for ours, value in copies:
        if ours.shape != value.shape:  # such as a map whose width is not four times the model's
            raise MinimandError(
                f"{name} has a tensor of shape {tuple(ours.shape)} where {theirs} has one of {tuple(value.shape)}."
            )
    for ours, value in copies:
        ours.copy_(value)
    return model


def _check_unchanged(model: UnrolledNetwork, hf_model: nn.Module) -> None:
    """Raise MinimandError for layers that surgery or a scaling rule made others than those of the family."""
    for changed, whole in ((model, model.info.name), (hf_model, type(hf_model).__name__)):
        if records := changes(changed):
            how = str(records[-1]).splitlines()[0].rstrip(":")
            raise MinimandError(
                f"{whole} was changed ({how}), so that weights mean another function in it; expected a model as it is "
                "made. mm.changes(model).undo() makes it so."
            )
    if any(isinstance(module, Attention) and module.scale is not None for module in model.modules()):
        raise MinimandError(
            f"{model.info.name} has attention that a scaling rule scaled; expected a model without parametrization."
        )


def _settings_of_gpt2(config: Any) -> dict[str, Any]:
    _expect(config, "activation_function", "gelu_new", "gelu_pytorch_tanh")
    _expect(config, "scale_attn_weights", True)
    _expect(config, "scale_attn_by_inverse_layer_idx", False)
    _expect(config, "add_cross_attention", False)
    return {
        "num_tokens": config.vocab_size,
        "context": config.n_positions,
        "width": config.n_embd,
        "depth": config.n_layer,
        "heads": config.n_head,
        "epsilon": config.layer_norm_epsilon,
        "normalize_branches": False,
    }


def _settings_of_llama(config: Any) -> dict[str, Any]:
    _expect(config, "hidden_act", "silu")
    _expect(config, "attention_bias", False)
    _expect(config, "mlp_bias", False)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise MinimandError(f"hf_model has rotary positions of the type {rope['rope_type']!r}; expected 'default'.")
    return {
        "num_tokens": config.vocab_size,
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "hidden": config.intermediate_size,
        "epsilon": config.rms_norm_eps,
        "rotary_base": int(rope.get("rope_theta", getattr(config, "rope_theta", 10000))),
    }


def _expect(config: Any, name: str, *values: Any) -> None:
    value = getattr(config, name, values[0])
    if value not in values:
        raise MinimandError(f"hf_model has {name}={value!r}; expected {' or '.join(map(repr, values))}.")


def _copies_of_gpt2(model: UnrolledNetwork, weights: Weights) -> Copies:
    stem: Any = model.stem.module
    yield stem.table.tokens.weight, weights["transformer.wte.weight"]
    yield stem.table.positions.weight, weights["transformer.wpe.weight"]
    for i, (attend, map) in enumerate(_layers(model)):
        at = f"transformer.h.{i}."
        pairs = {"ln_1": attend.norm, "attn.c_attn": attend.inner.qkv, "attn.c_proj": attend.inner.project}
        pairs |= {"ln_2": map.norm, "mlp.c_fc": map.inner.expand, "mlp.c_proj": map.inner.contract}
        for name, module in pairs.items():
            weight = weights[f"{at}{name}.weight"]  # transformers' Conv1D has its weight as (in, out)
            yield module.weight, weight.T if weight.ndim == 2 else weight
            yield module.bias, weights[f"{at}{name}.bias"]
    norm, head = cast(Any, model.head.module)
    yield norm.weight, weights["transformer.ln_f.weight"]
    yield norm.bias, weights["transformer.ln_f.bias"]
    yield head.weight, weights["lm_head.weight"]


def _copies_of_llama(model: UnrolledNetwork, weights: Weights) -> Copies:
    stem: Any = model.stem.module
    yield stem.table.tokens.weight, weights["model.embed_tokens.weight"]
    for i, (attend, map) in enumerate(_layers(model)):
        at = f"model.layers.{i}."
        projections = [weights[f"{at}self_attn.{part}_proj.weight"] for part in "qkv"]
        yield attend.inner.qkv.weight, torch.cat(projections)
        pairs = {"input_layernorm": attend.norm, "self_attn.o_proj": attend.inner.project}
        pairs |= {"post_attention_layernorm": map.norm, "mlp.gate_proj": map.inner.gate}
        pairs |= {"mlp.up_proj": map.inner.expand, "mlp.down_proj": map.inner.contract}
        for name, module in pairs.items():
            yield module.weight, weights[f"{at}{name}.weight"]
    norm, head = cast(Any, model.head.module)
    yield norm.weight, weights["model.norm.weight"]
    yield head.weight, weights["lm_head.weight"]


def _layers(model: UnrolledNetwork) -> Iterator[tuple[Any, Any]]:
    """Attention and the map of each layer, whatever the splitting."""
    branches = [module for module in model.modules() if isinstance(module, TransformerBranch)]
    attends = [branch for branch in branches if isinstance(branch.inner, Attention)]
    maps = [branch for branch in branches if not isinstance(branch.inner, Attention)]
    return zip(attends, maps, strict=True)


_TABLES = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}
_FAMILIES: dict[str, tuple[str, Callable[[Any], dict[str, Any]], Callable[[UnrolledNetwork, Weights], Copies]]] = {
    "gpt2": ("gpt", _settings_of_gpt2, _copies_of_gpt2),
    "llama": ("llama", _settings_of_llama, _copies_of_llama),
}
