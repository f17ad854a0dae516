"""The branches inside somebody else's transformer layers, wired by an algorithm."""

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.errors import MisuseError
from minimand.networks.realization.increments import Increments
from minimand.networks.skeletons import skeletons
from minimand.report.explain import certify_model
from sweeps import thin

LAYERS = 3


def _transformers(family: tuple[str, str], **settings: Any) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    pytest.importorskip("transformers")
    import minimand.vision  # noqa: F401  # torchvision beside a CPU build of torch

    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = getattr(transformers, family[0])(getattr(transformers, family[1])(**settings)).double().eval()
    tokens = torch.randint(0, 17, (2, 6), generator=torch.Generator().manual_seed(1))
    return model, lambda model: model(tokens)[0]


def _gpt2() -> Any:
    sizes = {"vocab_size": 17, "n_positions": 32, "n_embd": 8, "n_layer": LAYERS, "n_head": 2}
    return _transformers(("GPT2LMHeadModel", "GPT2Config"), **sizes, bos_token_id=0, eos_token_id=0)


def _llama() -> Any:
    sizes = {"vocab_size": 17, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    return _transformers(("LlamaForCausalLM", "LlamaConfig"), **sizes, **heads)


def _bert() -> Any:
    sizes = {"vocab_size": 17, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": LAYERS}
    name = "RobertaPreLayerNorm"
    return _transformers((f"{name}Model", f"{name}Config"), **sizes, num_attention_heads=2)


def _vit() -> Any:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    model, _ = _transformers(("ViTModel", "ViTConfig"), **sizes, image_size=8, patch_size=4)
    images = torch.randn(2, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    return model, lambda model: model(images)[0]


def _timm() -> Any:
    from minimand._support.torch.torchvision import require_timm

    pytest.importorskip("timm")
    torch.manual_seed(0)
    timm = require_timm()
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": LAYERS, "num_heads": 2, "num_classes": 5}
    model = timm.create_model("vit_tiny_patch16_224", **sizes, init_values=0.5).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    return model, lambda model: model(images)


def _encoder() -> Any:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, dropout=0.0, dtype=torch.double)
    model = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    return model, lambda model: model(x)


MODELS = {"gpt2": _gpt2, "llama": _llama, "bert": _bert, "vit": _vit, "timm": _timm, "encoder": _encoder}
ALGORITHMS = [
    "heavy_ball(momentum=0.6)",
    "nesterov(momentum=0.4)",
    "fista",
    "momentum_residual(momentum=0.5)",
    "general_momentum(momentum=0.4, lookahead=0.2, readout=0.3)",
    "dense_nesterov",
    "leapfrog",
    "heavy_ball(momentum=Learnable(0.5, 0, 1))",
]


def _branches(layer: nn.TransformerEncoderLayer) -> list[Callable[[Tensor], Tensor]]:
    def attend(z: Tensor) -> Tensor:
        z = layer.norm1(z)
        return layer.self_attn(z, z, z, need_weights=False)[0]

    return [attend, lambda z: layer.linear2(layer.activation(layer.linear1(layer.norm2(z))))]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_branches_are_half_steps(algorithm: str) -> None:
    """The outputs and gradients of the algorithm's own steps over attention and map in turns, written by hand."""
    model, run = _encoder()
    reference = copy.deepcopy(model)
    mm.rewire(model, algorithm, at="branches")
    chosen = mm.algorithms.as_algorithm(algorithm)
    x = torch.randn(2, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    state = chosen.start(x)
    branches = [branch for layer in reference.layers for branch in _branches(layer)]
    for k, branch in enumerate(branches):
        state = chosen.step(state, lambda z, branch=branch: -branch(z), k)
    expected = chosen.read(state)
    output = run(model)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-10)
    weights = torch.randn_like(expected)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    ours = dict(model.named_parameters())
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", thin(MODELS, ["gpt2", "encoder", "timm"]))
def test_without_momentum_nothing_changes_and_all_can_be_undone(name: str) -> None:
    model, run = MODELS[name]()
    before, names = run(model), list(model.state_dict())
    for still in ("gradient_descent", "heavy_ball(momentum=0)"):
        mm.rewire(model, still, at="branches")
        assert torch.equal(run(model), before)
        assert list(model.state_dict()) == names
        mm.changes(model).undo()
    mm.rewire(model, "heavy_ball(momentum=Learnable(0.5, 0, 1))", at="branches")
    moved = run(model)
    assert not torch.allclose(moved, before)
    assert torch.equal(run(pickle.loads(pickle.dumps(model))), moved)
    assert torch.equal(run(copy.deepcopy(model)), moved)
    mm.changes(model).undo()
    assert torch.equal(run(model), before)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("name", thin(MODELS, ["gpt2", "vit", "timm"]))
def test_every_kind_of_layer_is_found(name: str) -> None:
    """Heavy ball as a loop over increments: v = a + m v, added to the stream by the layers themselves."""
    model, run = MODELS[name]()
    streams: list[Tensor] = []
    answers: list[Tensor] = []
    mm.rewire(model, "gradient_descent", at="branches")
    record = cast(Any, mm.changes(model)[0])
    leaves = dict.fromkeys(branch.leaves for branch in record.runs[0].branches)
    record.undo()
    for leaf in leaves:  # before the hooks of rewiring, so that it sees what the module itself answers
        model.get_submodule(leaf).register_forward_hook(
            lambda _, args, y: answers.append(y[0] if isinstance(y, tuple) else y)
        )
    mm.rewire(model, "heavy_ball(momentum=0.5)", at="branches")
    record = cast(Any, mm.changes(model)[0])
    assert f"({2 * LAYERS} branches) by HeavyBall" in str(record)
    (skeleton,) = skeletons(model)
    assert (skeleton.depth, skeleton.binding) == (2 * LAYERS, "residual")
    for branch in record.runs[0].branches:
        model.get_submodule(branch.enters).register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    run(model)
    assert len(streams) == len(answers) == 2 * LAYERS
    velocity = torch.zeros_like(streams[0])
    for answer, (before, after) in zip(answers, pairwise(streams), strict=False):
        velocity = answer + 0.5 * velocity
        assert velocity.norm() > 0
        torch.testing.assert_close(after - before, velocity, rtol=1e-9, atol=1e-12)
    assert cast(Any, certify_model(model).gains)[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", thin(["gpt2", "llama"], ["gpt2"]))
def test_generation_with_a_cache_is_generation_without(name: str) -> None:
    model, _ = MODELS[name]()
    mm.rewire(model, "heavy_ball(momentum=0.6)", at="branches")
    prompt = torch.tensor([[3, 1, 4, 1]])
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with_cache, without = (model.generate(prompt, **settings, use_cache=cache) for cache in (True, False))
    assert torch.equal(with_cache, without)


def test_increments_of_heavy_ball_have_two_terms() -> None:
    """And of gradient descent one; with the momentum learnable too."""
    for algorithm, terms in (("gradient_descent", 1), ("heavy_ball", 2), ("momentum_residual", 2), ("nesterov", 3)):
        combinations = Increments(mm.algorithms.as_algorithm(algorithm), 9).combinations
        assert max(len(c.terms) for c in combinations) <= terms


_DECODER = nn.TransformerDecoderLayer(8, 2, 8, norm_first=True)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(3)]), {}, "no residual branches"),
        (nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 8) for _ in range(2)]), {}, "normalizes after its branches"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
            {},
            "no residual branches .* Looked at .* Linear, ReLU. at='blocks'",
        ),
        (nn.TransformerDecoder(_DECODER, 2), {}, "has cross-attention between its branches"),
    ],
)
def test_bad_models(model: nn.Module, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.rewire(model, "heavy_ball", at="branches", **options)
    assert not mm.changes(model)


def test_bad_arguments() -> None:
    model, _ = _encoder()
    with pytest.raises(ValueError, match="unknown at of rewire 'branch'. Did you mean 'branches'"):
        mm.rewire(model, "heavy_ball", at="branch")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="asks several answers in a step"):
        mm.rewire(model, "yurii_former(first_velocity='zero')", at="branches")


@pytest.mark.parametrize("memory", ["store", "checkpoint", "reversible"])
def test_what_stands_between_branches_is_an_error(memory: Any) -> None:
    class Doubling(nn.TransformerEncoderLayer):
        def forward(self, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            src = 2 * (src + self.dropout1(self._sa_block(self.norm1(src), None, None)))
            return src + self.dropout2(self._ff_block(self.norm2(src)))

    layers = nn.Sequential(*[Doubling(8, 2, 8, norm_first=True, batch_first=True) for _ in range(2)])
    mm.rewire(layers, "heavy_ball", at="branches", memory=memory)
    for _ in range(2):
        with pytest.raises(MisuseError, match="something stands between them"):
            layers(torch.randn(2, 3, 8))


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_a_branch_that_changes_the_shape_is_named(memory: Any) -> None:
    class Pooling(nn.TransformerEncoderLayer):
        def forward(self, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            src = src + self.dropout1(self._sa_block(self.norm1(src), None, None))
            return src + self.dropout2(self._ff_block(self.norm2(src))[:, :1])

    layers = nn.Sequential(*[Pooling(8, 2, 8, norm_first=True, batch_first=True) for _ in range(2)])
    mm.rewire(layers, "heavy_ball", at="branches", memory=memory)
    with pytest.raises(MisuseError, match=r"0.dropout2 maps \(2, 3, 8\) to \(2, 1, 8\)"):
        layers(torch.randn(2, 3, 8))
