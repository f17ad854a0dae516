"""Logits of transformers' GPT-2 and Llama, of small random ones, in our models."""

from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_torchvision

GPT: dict[str, Any] = {"num_tokens": 50, "context": 16, "width": 32, "depth": 3, "heads": 4}
LLAMA: dict[str, Any] = {**GPT, "hidden": 40, "key_value_heads": 2, "epsilon": 1e-6}


def _theirs(kind: str, **changes: Any) -> Any:
    require_torchvision("by transformers")  # which transformers imports
    import transformers

    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **ends, **changes}))
    else:
        sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 40, "max_position_embeddings": 16}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **ends, **changes}))
    for p in model.parameters():  # scales and biases start at values that hide mistakes
        nn.init.normal_(p, 0.3 if p.ndim == 1 else 0.0, 0.2)
    return model.eval()


def _parametrized(model: Any) -> Any:
    nn.utils.parametrizations.weight_norm(model.transformer.h[0].attn.c_attn)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_and_texts_are_those_of_transformers(kind: str, tied: bool) -> None:
    theirs = _theirs(kind, tie_word_embeddings=tied)
    settings: dict[str, Any] = {"tied": tied, **(GPT if kind == "gpt2" else LLAMA)}
    ours = mm.create_model("gpt_nano" if kind == "gpt2" else "llama_nano", **settings)
    assert mm.models.from_transformers(ours, theirs) is ours
    tokens = torch.randint(50, (2, 16))
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours.eval()(tokens), expected, rtol=1e-4, atol=1e-4)
    text = theirs.generate(tokens[:, :5], max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(ours.generate(tokens[:, :5], 8, temperature=0), text)
    whole = mm.create_model("gpt_nano" if kind == "gpt2" else "llama_nano", splitting="whole", **settings)
    torch.testing.assert_close(mm.models.from_transformers(whole, theirs)(tokens), expected, rtol=1e-4, atol=1e-4)
    for other in ("strang", "euler"):
        wired = mm.create_model("gpt_nano" if kind == "gpt2" else "llama_nano", splitting=other, **settings)
        assert not torch.allclose(mm.models.from_transformers(wired, theirs)(tokens), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("make", "theirs", "message"),
    [
        (lambda: mm.create_model("gpt_nano", **GPT), lambda: nn.Linear(2, 2), "hf_model is Linear; expected a GPT2LM"),
        (lambda: nn.Linear(2, 2), lambda: _theirs("gpt2"), "model is Linear; expected an mm.UnrolledNetwork"),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _theirs("gpt2").transformer,
            "GPT2Model, which has no",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _theirs("llama"),
            "gpt_nano is not the architecture",
        ),
        (lambda: mm.create_model("mlp", in_channels=3), lambda: _theirs("gpt2"), "mlp is not the architecture of GPT2"),
        (
            lambda: mm.create_model("gpt_nano", **{**GPT, "heads": 2, "context": 8}),
            lambda: _theirs("gpt2"),
            "gpt_nano has context=8, heads=2; expected context=16, heads=4, as GPT2LMHeadModel has it",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _theirs("gpt2", tie_word_embeddings=False),
            "has tied=True; expected tied=False",
        ),
        (
            lambda: mm.create_model("gpt_nano", embedding="sum", **GPT),
            lambda: _theirs("gpt2"),
            "has embedding='sum'; expected embedding='one'",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _theirs("gpt2", activation_function="relu"),
            "hf_model has activation_function='relu'; expected 'gelu_new'",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _theirs("gpt2", n_inner=40),
            "has a tensor of shape \\(128, 32\\) where GPT2LMHeadModel has one of \\(40, 32\\)",
        ),
        (
            lambda: mm.create_model("llama_nano", **{**LLAMA, "epsilon": 1e-5}),
            lambda: _theirs("llama"),
            "llama_nano has epsilon=1e-05; expected epsilon=1e-06",
        ),
        (
            lambda: mm.create_model("gpt_nano", normalization="rms", **GPT),
            lambda: _theirs("gpt2"),
            r"gpt_nano was changed \(normalized by rms\), .* expected a model as it is made",
        ),
        (
            lambda: mm.harden(mm.create_model("gpt_nano", **GPT), mm.Sign()),
            lambda: _theirs("gpt2"),
            "gpt_nano was changed \\(thresholds in the place of 3 activations",
        ),
        (
            lambda: mm.create_model("gpt_nano", parametrization="mup", **GPT),
            lambda: _theirs("gpt2"),
            "gpt_nano has attention that a scaling rule scaled",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: mm.rewire(_theirs("gpt2"), "heavy_ball", at="branches"),
            "GPT2LMHeadModel was changed \\(GPT2LMHeadModel rewired",
        ),
        (
            lambda: mm.create_model("gpt_nano", **GPT),
            lambda: _parametrized(_theirs("gpt2")),
            "GPT2LMHeadModel has no weight 'transformer.h.0.attn.c_attn.weight'; expected those of transformers' own",
        ),
        (
            lambda: mm.create_model("llama_nano", **LLAMA),
            lambda: _theirs("llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
            "rotary positions of the type 'linear'; expected 'default'",
        ),
        (
            lambda: mm.create_model("llama_nano", **LLAMA),
            lambda: _theirs("llama", head_dim=16),
            "has a tensor of shape \\(64, 32\\) where LlamaForCausalLM has one of \\(128, 32\\)",
        ),
    ],
)
def test_another_architecture_is_refused_and_nothing_copied(make: Any, theirs: Any, message: str) -> None:
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((ValueError, TypeError), match=message):
        mm.models.from_transformers(model, theirs())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
