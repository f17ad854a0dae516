"""Dropout of language models: where it is, that it is off when judged, and that memory replays it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.torch.torchvision import require_torchvision

SIZES: dict[str, Any] = {"num_tokens": 11, "context": 8, "width": 16, "depth": 2, "heads": 2}
NANO = ("gpt_nano", "llama_nano")


def _model(name: str, algorithm: str = "gradient_descent", **settings: Any) -> Any:
    torch.manual_seed(0)
    return mm.create_model(name, algorithm, **{**SIZES, **({"hidden": 24} if "llama" in name else {}), **settings})


def _tokens() -> Tensor:
    return torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(1))


def test_what_is_dropped_is_what_gpt2_of_transformers_drops() -> None:
    require_torchvision("by transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    drops: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.4)
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 16, "n_layer": 2, "n_head": 2}
    theirs = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **sizes, **drops))
    theirs.set_attn_implementation("sdpa")
    ours = mm.models.from_transformers(_model("gpt_nano", dropout=0.4), theirs)
    logits = []
    for model, training in ((theirs, True), (ours, True), (ours, False)):
        torch.manual_seed(1)
        output = model.train(training)(_tokens())
        logits.append(output if isinstance(output, Tensor) else output.logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits[2], logits[0], atol=1e-2)


@pytest.mark.parametrize("name", NANO)
def test_without_training_nothing_is_dropped(name: str) -> None:
    plain, dropping = _model(name).eval(), _model(name, dropout=0.5).eval()
    torch.testing.assert_close(dropping(_tokens()), plain(_tokens()), rtol=0, atol=0)
    for module in dropping.train().modules():  # what measures turns off the modules that draw
        if isinstance(module, nn.Dropout):
            module.eval()
    torch.testing.assert_close(dropping(_tokens()), plain(_tokens()), rtol=0, atol=0)


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
@pytest.mark.parametrize("algorithm", ["heavy_ball(momentum=0.9)", "bdia"])
@pytest.mark.parametrize("name", NANO)
def test_memory_replays_what_was_dropped(name: str, algorithm: str, memory: Any) -> None:
    gradients = []
    for how in ("store", memory):
        model = _model(name, algorithm, dropout=0.3, memory=how).double()
        model(_tokens())  # what a first call tries out draws nothing of the next one
        torch.manual_seed(2)
        logits = model(_tokens())
        logits.logsumexp(-1).mean().backward()
        gradients.append([logits, *(p.grad for p in model.parameters())])
    for expected, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2, "a"])
def test_what_is_no_probability_is_told(dropout: Any) -> None:
    with pytest.raises(ValueError, match="dropout is .*; expected a probability"):
        _model("gpt_nano", dropout=dropout)
