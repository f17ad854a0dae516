"""Architectures that are known to train, at the weights their own packages give them, each with a batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minimand._support.torch.torchvision import require_torchvision

Made = tuple[nn.Module, Any]
_SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT: dict[str, Any] = {"vocab_size": 100, "max_position_embeddings": 64, **_SIZES}
_KEYS: dict[str, Any] = {"num_key_value_heads": 2}
_GPT2: dict[str, Any] = {
    "vocab_size": 100,
    "n_embd": 64,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def images(size: int) -> Tensor:
    """Eight smooth random images."""
    return nn.functional.interpolate(torch.randn(8, 3, 4, 4), (size, size), mode="bicubic")


def _torchvision(name: str, size: int = 64, **options: Any) -> Callable[[], Made]:
    return lambda: (getattr(require_torchvision("by the zoo").models, name)(**options), images(size))


def _timm(name: str, size: int = 64, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        require_torchvision("by the zoo")
        import timm

        return timm.create_model(name, **options), images(size)

    return make


def _transformers(name: str, config: str, batch: Callable[[], Any] | None = None, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        require_torchvision("by the zoo")
        import transformers

        model = getattr(transformers, name)(getattr(transformers, config)(**options))
        return model, torch.randint(3, 100, (8, 16)) if batch is None else batch()

    return make


def _pairs(second: str) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, 100, (8, 16)), second: torch.randint(3, 100, (8, 12))}


def _of_torchvision() -> dict[str, Callable[[], Made]]:
    names = "alexnet vgg11 vgg16_bn resnet18 squeezenet1_0 densenet121 mobilenet_v2 mobilenet_v3_small efficientnet_b0"
    names += " shufflenet_v2_x0_5 convnext_tiny swin_t regnet_y_400mf mnasnet0_5"
    models = {name: _torchvision(name) for name in names.split()}
    googlenet = _torchvision("googlenet", 96, init_weights=False)  # with heads that only training runs
    return {**models, "googlenet": googlenet, "vit_b_16": _torchvision("vit_b_16", image_size=64)}


def _of_timm() -> dict[str, Callable[[], Made]]:
    names = "nfnet_l0 nf_resnet50 resnetv2_50 repvgg_a0 convmixer_768_32 poolformer_s12 mobilevit_xxs ghostnet_100"
    sized = "vit_tiny_patch16_224 mixer_s32_224 resmlp_12_224 gmlp_ti16_224 cait_xxs24_224 xcit_nano_12_p16_224"
    models = {name: _timm(name, 32 if "nf" in name else 64) for name in names.split()}
    return {**models, **{name: _timm(name, img_size=64) for name in sized.split()}}


def _of_transformers() -> dict[str, Callable[[], Made]]:
    named: dict[str, dict[str, Any]] = {
        "Bert": _TEXT,
        "Roberta": _TEXT,
        "Electra": _TEXT,
        "DebertaV2": _TEXT,
        "Albert": _TEXT,
    }
    causal: dict[str, dict[str, Any]] = {
        "Llama": _TEXT,
        "Qwen2": {**_TEXT, **_KEYS},
        "Mistral": {**_TEXT, **_KEYS},
        "GPTNeoX": _TEXT,
    }
    t5: dict[str, Any] = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 4, "num_heads": 4}
    sides = [(f"{side}_{key}", n) for side in ("encoder", "decoder") for key, n in (("layers", 4), ("ffn_dim", 128))]
    bart: dict[str, Any] = {
        "vocab_size": 100,
        "d_model": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        **dict(sides),
    }
    vit: dict[str, Any] = {**_SIZES, "image_size": 32, "patch_size": 8}
    return {
        **{
            name.lower(): _transformers(f"{name}ForSequenceClassification", f"{name}Config", **options)
            for name, options in named.items()
        },
        **{name.lower(): _transformers(f"{name}ForCausalLM", f"{name}Config", **o) for name, o in causal.items()},
        "gpt2": _transformers("GPT2LMHeadModel", "GPT2Config", n_layer=4, **_GPT2),
        "gpt2 of 12 layers": _transformers("GPT2LMHeadModel", "GPT2Config", n_layer=12, **_GPT2),
        "t5": _transformers(
            "T5ForConditionalGeneration", "T5Config", lambda: _pairs("labels"), decoder_start_token_id=0, **t5
        ),
        "bart": _transformers(
            "BartForConditionalGeneration", "BartConfig", lambda: _pairs("decoder_input_ids"), **bart
        ),
        "vit": _transformers("ViTForImageClassification", "ViTConfig", lambda: images(32), **vit),
    }


ZOO: dict[str, Callable[[], Made]] = {**_of_torchvision(), **_of_timm(), **_of_transformers()}
"""By name: what makes a model, and a batch that it takes."""
