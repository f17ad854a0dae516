"""Language models: causal, whatever wires and cuts them; cached decoding is the full pass; splittings by hand."""

import copy
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.algorithms import ALGORITHMS, is_proximal
from minimand.models.language.generation import remembering
from minimand.models.language.parts import Embedding
from minimand.models.splitting import Splitting
from sweeps import crossed

LANGUAGE = [name for name in mm.list_models() if mm.model_info(name).takes_tokens]
NANO = ["gpt_nano", "llama_nano"]
SPLITTINGS = [None, *get_args(Splitting)]
RUNNABLE = [name for name, a in ALGORITHMS.items() if not any(map(is_proximal, a.oracles))]
TOKENS, CONTEXT = 11, 8


def _small(name: str, algorithm: Any = "gradient_descent", **settings: Any) -> Any:
    sizes = {"num_tokens": TOKENS, "context": CONTEXT, "width": 16, "depth": 2}
    if name.startswith("llama"):
        sizes["hidden"] = 24
    torch.manual_seed(0)
    model = mm.create_model(name, algorithm, **{**sizes, **settings}).double()
    with torch.no_grad():  # branches of order 1, or nothing that goes wrong in them is seen
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(10)
    return model


def _tokens(count: int = CONTEXT, batch: int = 2) -> Tensor:
    return torch.randint(TOKENS, (batch, count), generator=torch.Generator().manual_seed(1))


def _possible(algorithm: str, splitting: str | None) -> None:
    if splitting is not None and len(ALGORITHMS[algorithm].oracles) > 1:
        pytest.skip("an algorithm of two gradients has no splitting")


THROUGH = ("gpt_nano", "heavy_ball", None)


@pytest.mark.parametrize(("name", "algorithm", "splitting"), crossed(NANO, RUNNABLE, SPLITTINGS, through=THROUGH))
def test_a_token_changes_no_earlier_logit_and_cached_decoding_is_the_full_pass(
    name: str, algorithm: str, splitting: str | None
) -> None:
    _possible(algorithm, splitting)
    model = _small(name, algorithm, splitting=splitting)
    tokens = _tokens()
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % TOKENS
    with torch.no_grad():
        for training in (True, False):
            model.train(training)
            logits = []
            for x in (tokens, changed):
                torch.manual_seed(0)
                logits.append(model(x))
            torch.testing.assert_close(logits[0][:, :5], logits[1][:, :5], rtol=0, atol=1e-12)
            assert ((logits[0] - logits[1])[:, 5:].abs() > 1e-6).all(dim=-1).any(dim=0).all()
        with remembering(model, CONTEXT) as cache:
            parts = []
            for start, end in ((0, 3), (3, 4), (4, 6), (6, 8)):
                parts.append(model(tokens[:, start:end]))
                cache.end_pass(end - start)
        torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=0, atol=1e-10)
        torch.testing.assert_close(model.float()(tokens), logits[0].float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_a_splitting_is_what_it_says(splitting: Any) -> None:
    """Heavy ball by hand, its velocity passed from one answer to the next."""
    model = _small("gpt_nano", "heavy_ball(momentum=0.5)", splitting=splitting)
    twin = _small("gpt_nano", "gradient_descent", splitting="euler")
    attends = [layer.attend for layer in twin.stages[0].blocks]
    maps = [layer.map for layer in twin.stages[0].blocks]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.data.copy_(p.data)

    def answers(attend: nn.Module, map: nn.Module) -> list[Any]:
        return {
            "lie_trotter": [attend, map],
            "euler": [lambda z: attend(z) + map(z)],
            "strang": [lambda z: attend(z) / 2, map, lambda z: attend(z) / 2],
            "whole": [lambda z: attend(z) + map(z + attend(z))],
        }[splitting or "lie_trotter"]

    def by_hand(tokens: Tensor) -> Tensor:
        x = twin.stem.module(tokens)
        v = torch.zeros_like(x)
        for attend, map in zip(attends, maps, strict=True):
            for answer in answers(attend, map):
                v = 0.5 * v + answer(x)
                x = x + v
        return twin.head.module(x)

    tokens, weights = _tokens(), torch.randn(2, CONTEXT, TOKENS, dtype=torch.double)
    outputs = [model(tokens), by_hand(tokens)]
    torch.testing.assert_close(*outputs)
    gradients = [
        torch.autograd.grad((y * weights).sum(), list(m.parameters()))
        for y, m in zip(outputs, (model, twin), strict=True)
    ]
    for ours, hand in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, hand)


@pytest.mark.parametrize("name", [*NANO, "vit_tiny"])
def test_two_gradients_are_attention_and_map(name: str) -> None:
    vision: dict[str, Any] = {"image_size": 16, "patch": 8, "width": 12, "depth": 2}
    model = _small(name, "merge_and_run") if name in NANO else mm.create_model(name, "linearized_admm", **vision)
    layers: list[Any] = model.stages[0].blocks
    for attend, map in ([*layer.values()] for layer in layers):
        assert type(attend.inner).__name__ == "Attention"
        assert type(map.inner).__name__ == "Map"
    assert len(layers) == 2


def test_the_second_half_of_strang_stays_the_first(tmp_path: Path) -> None:
    model = _small("gpt_nano", "heavy_ball(momentum=0.5)", splitting="strang")
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in _small("gpt_nano", splitting="euler").parameters()
    )
    model.save_pretrained(tmp_path)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), mm.UnrolledNetwork.from_pretrained(tmp_path)]
    twins.append(_small("gpt_nano", "heavy_ball(momentum=0.5)", splitting="strang", embedding="one"))
    twins[-1].load_state_dict(model.state_dict())
    tokens = _tokens()
    expected = model(tokens)
    for twin in twins:
        torch.testing.assert_close(twin.double()(tokens), expected)
        blocks = twin.stages[0].blocks
        with torch.no_grad():
            blocks[0].branch.inner.project.weight.zero_()
            blocks[0].branch.inner.project.bias.fill_(1.0)
            assert (blocks[2](torch.randn(1, 3, 16).double()) == 0.5).all()
    torch.testing.assert_close(model(tokens), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_the_table_through_every_store(tied: bool, tmp_path: Path) -> None:
    model = _small("gpt_nano", tied=tied)
    model.save_pretrained(tmp_path)
    expected = model(_tokens()).float()
    for twin in (copy.deepcopy(model), mm.UnrolledNetwork.from_pretrained(tmp_path)):
        parts = dict(twin.named_parameters(remove_duplicate=False))
        assert (parts["head.module.1.weight"] is parts["stem.module.table.tokens.weight"]) == tied
        assert twin.config == model.config
        torch.testing.assert_close(twin.float()(_tokens()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding", get_args(Embedding))
def test_an_embedding_is_what_it_says(embedding: Any) -> None:
    stem = _small("gpt_nano", embedding=embedding).stem.module
    tokens = _tokens()
    tables: list[Any] = [t for t in (stem.table, stem.second) if t is not None]
    e, *rest = [t.tokens.weight[tokens] + t.positions.weight[:CONTEXT] for t in tables]
    normalized = [nn.functional.layer_norm(y, (16,)) for y in (e, *rest)]
    expected = {
        "one": lambda: e,
        "normalized": lambda: normalized[0],
        "sum": lambda: e + rest[0],
        "normalized_sum": lambda: e + normalized[1],
    }[embedding]()
    torch.testing.assert_close(stem(tokens), expected)


@pytest.mark.parametrize("name", LANGUAGE)
def test_sizes_are_the_published_ones(name: str) -> None:
    published = {"gpt2": 124_439_808, "gpt2_medium": 354_823_168, "llama_1b": 1_100_048_384, "llama2_7b": 6_738_415_616}
    with torch.device("meta"):
        model = mm.create_model(name)
    if name in published:
        assert sum(p.numel() for p in model.parameters()) == published[name]
    assert len(model.layers) == 2 * model.config["depth"]


def test_weights_begin_as_those_of_gpt2() -> None:
    torch.manual_seed(0)
    model = mm.create_model("gpt_nano", num_tokens=65)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            std = 0.02 / 8**0.5 if name.endswith(("project.weight", "contract.weight")) else 0.02
            assert float(p.detach().std()) == pytest.approx(std, rel=0.05), name


@pytest.mark.parametrize("name", NANO)
def test_generation_goes_on_as_full_passes_do(name: str) -> None:
    """Also past the context, where the window slides."""
    model = _small(name, "nesterov(momentum=0.3)", splitting="strang").train()
    for prompt in (1, 3, CONTEXT, CONTEXT + 3):
        tokens = _tokens(prompt)
        text = model.generate(tokens, 12, temperature=0)
        assert torch.equal(text[:, :prompt], tokens)
        by_hand = tokens
        with torch.no_grad():
            for _ in range(12):
                last = model.eval()(by_hand[:, -CONTEXT:])[:, -1].argmax(dim=-1, keepdim=True)
                by_hand = torch.cat([by_hand, last], dim=1)
        assert torch.equal(text, by_hand)
        model.train()


def test_generation_is_seeded_and_leaves_the_model_as_it_was() -> None:
    model = _small("gpt_nano").train()
    model.head.eval()
    before = [m.training for m in model.modules()]
    texts = [model.generate(_tokens(3), 20, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert [m.training for m in model.modules()] == before
    assert torch.equal(model.generate(_tokens(3), 5, top_k=1), model.generate(_tokens(3), 5, temperature=0))
    model.stages[0].layers[0].block.register_forward_hook(_stop)
    with pytest.raises(RuntimeError, match="stop"):
        model.generate(_tokens(3), 5)
    assert [m.training for m in model.modules()] == before
    assert all(getattr(m, "cache", None) is None for m in model.modules())


def _stop(*_: Any) -> None:
    raise RuntimeError("stop")


def test_the_likeliest_are_drawn_from() -> None:
    model = _small("gpt_nano")
    tokens = _tokens(4, batch=1).expand(300, -1)
    with torch.no_grad():
        likeliest = set(model(tokens[:1])[0, -1].topk(3).indices.tolist())
    drawn = model.generate(tokens, 1, temperature=5.0, top_k=3, generator=torch.Generator().manual_seed(0))[:, -1]
    assert set(drawn.tolist()) == likeliest


def test_models_take_text_or_do_not() -> None:
    model = mm.models.create_for("gpt_nano(width=8)", (6,), 20, "nesterov", tokens=True)
    assert (model.config["context"], model.config["num_tokens"], model.input_shape) == (6, 20, (6,))
    assert model(model.noise(3)).shape == (3, 6, 20)
    for name, shape, tokens, message in (
        ("gpt_nano", (3, 8, 8), False, "gpt_nano takes tokens, but a sample is no text .* resnet20 takes it"),
        ("mlp", (6,), True, "mlp takes no tokens, but a sample is text .* gpt_nano takes it"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.models.create_for(name, shape, 5, tokens=tokens)


def test_blocks_of_ones_own_model_are_wired_as_tokens_run_through_them() -> None:
    class Apart(nn.Module):
        def __init__(self, num_tokens: int) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(num_tokens, 8), nn.Linear(8, num_tokens)
            self.early, self.late = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.late(self.early(self.table(tokens))))

    model = mm.models.create_for(Apart, (6,), 20, "heavy_ball", tokens=True)
    assert "early ... late  (2 blocks)" in str(mm.changes(model))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: m(torch.zeros(2, 4)), "was given float32 of the shape \\(2, 4\\); expected int64 tokens"),
        (lambda m: m(torch.zeros(4, dtype=torch.int64)), "was given int64 of the shape \\(4,\\)"),
        (lambda m: m(torch.zeros(1, 9, dtype=torch.int64)), "was given 9 tokens in a row; .* at most context = 8"),
        (lambda m: m(torch.zeros(1, 0, dtype=torch.int64)), "was given 0 tokens"),
        (lambda m: m(torch.full((1, 3), 11)), "was given the token 11; expected 0 to 10"),
        (lambda m: m(torch.full((1, 3), -1)), "was given the token -1"),
        (lambda m: m.generate([[1]], 3), "tokens is list"),
        (lambda m: m.generate(_tokens(2), 0), "max_new_tokens is 0; expected an integer, at least 1"),
        (lambda m: m.generate(_tokens(2), 1, temperature=-1), "temperature is -1"),
        (lambda m: m.generate(_tokens(2), 1, top_k=0), "top_k is 0"),
        (lambda m: m.generate(torch.full((1, 3), 11), 1), "was given the token 11"),
        (lambda m: m.reset_classifier(3), "gives logits of its vocabulary"),
        (lambda m: m.feature_info, "takes tokens; features are of models that take images"),
        (lambda m: mm.create_model("mlp", in_channels=4).generate(_tokens(2), 1), "mlp takes no tokens"),
        (lambda m: _small("gpt_nano", num_classes=3), "num_classes is 3, but gpt_nano takes tokens"),
        (lambda m: _small("gpt_nano", in_channels=3), "in_channels is 3, but gpt_nano takes tokens"),
        (lambda m: _small("gpt_nano", splitting="trotter"), "splitting is 'trotter'; expected one of 'lie_trotter'"),
        (lambda m: _small("gpt_nano", tied=1), "tied is 1; expected True or False"),
        (lambda m: _small("gpt_nano", width=18), "width is 18; expected a multiple of heads = 4"),
        (lambda m: _small("llama_nano", key_value_heads=3), "key_value_heads is 3; expected a divisor of heads = 4"),
        (lambda m: _small("llama_nano", width=12), "width is 12, a head 3 wide; expected an even one"),
        (lambda m: mm.normalize(m, "batch"), "'batch' takes statistics of all positions"),
        (lambda m: mm.normalize(m, "group(groups=2)"), "would read those that follow it; expected 'layer', 'rms'"),
        (lambda m: _small("gpt_nano", normalization="instance"), "'instance' takes statistics of all positions"),
        (lambda m: mm.normalize(m, "switchable"), "takes statistics of all positions"),
        (
            lambda m: _small("gpt_nano", "proximal_gradient"),
            "the algorithm asks gradient, prox, but the layers of a transformer",
        ),
        (
            lambda m: _small("gpt_nano", "linearized_admm", splitting="euler"),
            "splitting is 'euler', but the algorithm asks gradient_f, gradient_g: attention and the map are its",
        ),
    ],
)
def test_bad_input(act: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act(_small("gpt_nano"))
