"""Pretrained layers that are trained in the memory of one: the gradients of those that store everything."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.errors import MisuseError
from minimand._support.torch.torchvision import require_torchvision


def _gpt2() -> tuple[nn.Module, Any]:
    require_torchvision("by the tests")
    import transformers

    sizes: Any = {"vocab_size": 50, "n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 16}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.randint(50, (2, 8))}


def _timm() -> tuple[nn.Module, Any]:
    require_torchvision("by the tests")
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, embed_dim=48, drop_path_rate=0.2)
    return model, {"x": torch.randn(2, 3, 32, 32)}


def _gradients(model: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    output: Any = model.train()(**batch)
    loss = getattr(output, "logits", output).square().mean()
    return [g.double() for g in torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)]


@pytest.mark.parametrize("memory", ["reversible", "checkpoint"])
@pytest.mark.parametrize(("make", "at"), [(_gpt2, "branches"), (_gpt2, "blocks"), (_timm, "branches")])
def test_layers_that_keep_less_have_the_gradients_of_those_that_store(make: Any, at: Any, memory: Any) -> None:
    torch.manual_seed(0)
    model, batch = make()
    stored = mm.rewire(copy.deepcopy(model), "leapfrog", at=at)
    other = mm.rewire(copy.deepcopy(model), "leapfrog", at=at, memory=memory)
    expected, results = (_gradients(m, batch) for m in (stored, other))
    error = sum(float((a - b).square().sum()) for a, b in zip(results, expected, strict=True))
    assert (error / sum(float(b.square().sum()) for b in expected)) ** 0.5 < 1e-5
    assert "of their size" in str(mm.changes(other))
    mm.changes(other).undo()
    with torch.no_grad():
        outputs: list[Any] = [m.eval()(**batch) for m in (other, model)]
    assert torch.equal(*(getattr(output, "logits", output) for output in outputs))


@pytest.mark.parametrize("at", ["blocks", "branches"])
def test_copies_and_pickles_run_as_the_model_does(at: Any) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True, norm_first=True)
    model = mm.rewire(
        nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), "leapfrog", at=at, memory="reversible"
    )
    batch = {"src": torch.randn(2, 4, 8)}
    expected = _gradients(model, batch)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(_gradients(other, batch), expected)
        mm.changes(other).undo()
        assert not any("forward" in vars(part) for part in other.modules())
    torch.testing.assert_close(_gradients(model, batch), expected)


def _encoder(memory: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    return mm.rewire(encoder, "leapfrog", at="branches", memory=memory)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_second_thread_within_a_layer_of_the_first_is_refused(with_gradient: bool) -> None:
    encoder, x = _encoder("checkpoint"), torch.randn(2, 3, 8)

    def call() -> Tensor:
        with torch.set_grad_enabled(with_gradient):
            return encoder(x)

    first: Any = encoder.layers[0]
    with ThreadPoolExecutor() as other:
        hook = first.linear1.register_forward_hook(lambda *_: (hook.remove(), other.submit(call).result())[1])
        with pytest.raises(MisuseError, match="two threads at once"):
            encoder(x)
        assert encoder(x).requires_grad
        # And the other way around: training begins while another thread is within a layer.
        hook = first.linear1.register_forward_hook(lambda *_: (hook.remove(), other.submit(encoder, x).result())[1])
        with torch.no_grad(), pytest.raises(MisuseError, match="two threads at once"):
            encoder(x)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_second_thread_between_two_layers_of_the_first_changes_nothing(with_gradient: bool) -> None:
    encoder, x, y = _encoder("reversible"), torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    expected = encoder(x), encoder(y)

    def call() -> Tensor:
        with torch.set_grad_enabled(with_gradient):
            return encoder(y)

    outcomes: list[Tensor] = []
    with ThreadPoolExecutor() as other:
        encoder.layers[0].register_forward_hook(
            lambda *_: None if outcomes else outcomes.append(x) or outcomes.append(other.submit(call).result())
        )
        result = encoder(x)
    torch.testing.assert_close(result, expected[0])
    torch.testing.assert_close(outcomes[1], expected[1])


def test_layers_that_do_not_run_back_are_refused_before_anything_changes() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    with pytest.raises(ValueError, match="does not run backwards"):
        mm.rewire(encoder, "nesterov", at="branches", memory="reversible")
    assert not mm.changes(encoder)
