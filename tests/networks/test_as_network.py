"""Models of other libraries as stem, layers and head."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from layerwise_models import digits, recipe
from minimand._support.torch.internals import tree_flatten
from minimand._support.torch.torchvision import require_timm, require_torchvision
from minimand.networks.cutting.pieces import Piece

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(1, 90, (4, 12), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(4, 12, dtype=torch.long)
MASK[0, 8:] = 0
MASK[2, 5:] = 0
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}

Made = tuple[nn.Module, Any]


def of_timm(name: str, size: int = 32, **settings: Any) -> Callable[[], Made]:
    return lambda: (require_timm().create_model(name, num_classes=10, **settings), torch.randn(4, 3, size, size))


def of_torchvision(name: str, size: int = 32, **settings: Any) -> Callable[[], Made]:
    def made() -> Made:
        model = require_torchvision("a test").models.get_model(name, num_classes=10, **settings)
        return model, torch.randn(4, 3, size, size)

    return made


def of_transformers(kind: str, batch: Any, **settings: Any) -> Callable[[], Made]:
    def made() -> Made:
        transformers = pytest.importorskip("transformers")
        model = getattr(transformers, kind)
        return model(model.config_class(**settings)), batch

    return made


TEXT = {"input_ids": IDS, "attention_mask": MASK}
GPT = {"vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 16, "pad_token_id": 0}
DISTIL = {"vocab_size": 100, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64}
T5 = {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "decoder_start_token_id": 0}

FEW: dict[str, tuple[Callable[[], Made], int]] = {
    "timm's ViT": (of_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3), 3),
    "timm's ConvNeXt": (of_timm("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)), 5),
    "timm's Swin": (
        of_timm("swin_tiny_patch4_window7_224", 56, img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 2)),
        4,
    ),
    "torchvision's ResNet": (of_torchvision("resnet18"), 8),
    "BERT with a mask": (of_transformers("BertForSequenceClassification", TEXT, vocab_size=100, **SMALL), 3),
    "BERT of tokens alone": (of_transformers("BertModel", IDS, vocab_size=100, **SMALL), 3),
    "GPT-2 with a mask": (of_transformers("GPT2ForSequenceClassification", TEXT, **GPT), 3),
    "GPT-2 of tokens alone": (of_transformers("GPT2LMHeadModel", IDS, **GPT), 3),
    "ViT of transformers": (
        of_transformers("ViTForImageClassification", IMAGES, image_size=32, patch_size=8, **SMALL),
        3,
    ),
    "torch's encoder": (
        lambda: (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3),
            torch.randn(4, 7, 32),
        ),
        2,
    ),
}
MANY: dict[str, tuple[Callable[[], Made], int]] = {
    **{
        name: (of_timm(name), count)
        for name, count in {
            "convnext_atto": 12,
            "densenet121": 7,
            "efficientnet_b0": 15,
            "mobilenetv3_small_100": 10,
            "nfnet_l0": 12,
            "regnetx_002": 4,
            "resnet10t": 4,
            "resnet18": 8,
            "vgg11_bn": 7,
        }.items()
    },
    "deit3": (of_timm("deit3_small_patch16_224", img_size=32), 12),
    "mixer": (of_timm("mixer_s32_224", 64, img_size=64), 8),
    **{
        f"torchvision's {name}": (of_torchvision(name, 64), count)
        for name, count in {
            "alexnet": 7,
            "convnext_tiny": 18,
            "densenet121": 7,
            "efficientnet_b0": 16,
            "mnasnet0_5": 16,
            "mobilenet_v2": 17,
            "regnet_y_400mf": 16,
            "shufflenet_v2_x0_5": 16,
            "squeezenet1_1": 8,
            "swin_t": 12,
            "vgg11_bn": 10,
        }.items()
    },
    "torchvision's ViT": (of_torchvision("vit_b_16", image_size=32), 12),
    "Llama": (of_transformers("LlamaForCausalLM", TEXT, vocab_size=100, **SMALL), 3),
    "RoBERTa": (of_transformers("RobertaForSequenceClassification", TEXT, vocab_size=100, **SMALL), 3),
    "ALBERT": (of_transformers("AlbertForSequenceClassification", TEXT, vocab_size=100, embedding_size=16, **SMALL), 3),
    "DistilBERT": (of_transformers("DistilBertForSequenceClassification", TEXT, **DISTIL), 3),
    "T5": (of_transformers("T5ForConditionalGeneration", {**TEXT, "decoder_input_ids": IDS}, num_layers=2, **T5), 4),
}


def run(network: mm.Network, x: Any) -> Any:
    state = x
    for part in (network.stem, *network.layers, network.head):
        state = part(state)
    return state


def check_the_parts_are_the_model(make: Callable[[], Made], count: int) -> None:
    torch.manual_seed(0)
    model, x = make()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    network = mm.as_network(model, x)
    assert len(network.layers) == count
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    args, kwargs = ((), x) if isinstance(x, dict) else ((x,), {})
    for training in (False, True):
        model.train(training)
        torch.manual_seed(1)
        whole = tree_flatten(model(*args, **kwargs))[0]
        torch.manual_seed(1)
        parts = tree_flatten(run(network, x))[0]
        whole = [t for t in whole if isinstance(t, Tensor)][: len(parts)]  # transformers adds its keys and values
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.detach().abs().max()))
        losses = [sum(t.square().mean() for t in ts if t.is_floating_point()) for ts in (whole, parts)]
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = [torch.autograd.grad(cast(Tensor, loss), parameters, allow_unused=True) for loss in losses]
        for a, b in zip(*gradients, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(a.detach().abs().max()) + 1e-6)
    with torch.no_grad():
        state = network.stem(x)
        for j, layer in enumerate(network.layers):
            state = layer(state)
            leaves = state if isinstance(state, tuple) else (state,)
            assert all(len(leaf) == 4 for leaf in leaves)  # samples come first, so that states can be kept and sent
            assert network.read(j, state).is_floating_point()


@pytest.mark.parametrize("name", FEW)
def test_the_parts_of_a_model_are_the_model(name: str) -> None:
    check_the_parts_are_the_model(*FEW[name])


@pytest.mark.soak
@pytest.mark.parametrize("name", MANY)
def test_the_parts_of_many_models_are_the_model(name: str) -> None:
    check_the_parts_are_the_model(*MANY[name])


@pytest.mark.parametrize("name", ["timm's ViT", "GPT-2 with a mask", "torchvision's ResNet"])
def test_parts_run_on_any_number_of_samples_and_in_any_order_of_names(name: str) -> None:
    model, x = FEW[name][0]()
    network = mm.as_network(model.eval(), x)
    several: Any = x.repeat(2, 1, 1, 1)[:7] if isinstance(x, Tensor) else {k: v.repeat(2, 1)[:7] for k, v in x.items()}
    other = several if isinstance(x, Tensor) else dict(reversed(several.items()))
    args, kwargs = ((several,), {}) if isinstance(x, Tensor) else ((), several)
    with torch.no_grad():
        whole, parts = tree_flatten(model(*args, **kwargs))[0][0], tree_flatten(run(network, other))[0][0]
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)


def test_maps_with_channels_last_are_read_with_channels_first() -> None:
    model, x = FEW["timm's Swin"][0]()
    network = mm.as_network(model, x)
    state = network.layers[0](network.stem(x))
    assert state.shape == (4, 14, 14, 24)
    assert network.read(0, state).shape == (4, 24, 14, 14)


def test_a_part_is_trained_by_its_own_parameters_the_tokens_of_the_stem_too() -> None:
    model, x = FEW["timm's ViT"][0]()
    network = mm.as_network(model, x)
    assert isinstance(network.stem, Piece)
    owned = [set(map(id, part.parameters())) for part in (network.stem, *network.layers, network.head)]
    assert set().union(*owned) == set(map(id, model.parameters()))
    assert sum(map(len, owned)) == len(list(model.parameters()))
    assert id(model.cls_token) in owned[0]


class Triples(nn.Module):
    """Somebody's network of conv, norm and activation in one chain, and a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = triples(3)
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def triples(count: int) -> nn.Sequential:
    widths = [1, *[6] * count]
    each = [[nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()] for a, b in pairwise(widths)]
    return nn.Sequential(*[module for triple in each for module in triple])


def test_a_convolution_its_normalization_and_its_activation_are_one_layer() -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)]
    kinds = [[type(m) for m in cast(nn.Sequential, layer)] for layer in mm.as_network(triples(3).extend(head)).layers]
    assert kinds == [[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]] * 3
    linear = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.PReLU(), nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 2))
    assert [len(cast(nn.Sequential, layer)) for layer in mm.as_network(linear).layers] == [3, 2]
    before = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 6, 3), *list(triples(2))[3:], *head)
    assert [len(cast(nn.Sequential, layer)) for layer in mm.as_network(before).layers] == [3, 3]
    network = mm.as_network(Triples(), torch.randn(4, 1, 8, 8))
    assert [[type(m) for m in cast(nn.Sequential, layer)] for layer in network.layers] == kinds[:2]


def test_a_chain_inside_a_chain_counts_by_its_blocks() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.branch(x)

    model = nn.Sequential(nn.Linear(3, 6), nn.Sequential(*[Residual() for _ in range(5)]), nn.Linear(6, 2))
    assert len(mm.as_network(model).layers) == 6
    mm.rewire(model, "heavy_ball(momentum=0.5)")
    assert len(mm.as_network(model).layers) == 2  # what the algorithm carries from block to block is not cut


METHODS = [mm.Layerwise(cache="memory"), mm.Layerwise(), mm.Decoupled(), mm.TargetPropagation(recompute=True)]


@pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: f"{type(method).__name__}-{getattr(method, 'cache', '')}"
)
def test_local_methods_train_models_of_other_libraries(method: mm.Method) -> None:
    torch.manual_seed(0)
    settings = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 2, "in_chans": 1}
    model = require_timm().create_model("vit_tiny_patch16_224", num_classes=10, **settings)
    if isinstance(method, mm.TargetPropagation):
        for block in model.blocks:
            block.mlp.act = mm.Sign()
    before = {name: p.clone() for name, p in model.named_parameters()}
    mm.fit(model, (digits(), digits(64)), method=method, recipe=recipe())
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_recomputing_a_model_of_another_library_gives_the_gradients_of_one_pass() -> None:
    torch.manual_seed(0)
    settings = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 2, "in_chans": 1}
    model = require_timm().create_model("vit_tiny_patch16_224", num_classes=10, **settings)
    for block in model.blocks:
        block.mlp.act = mm.Sign()
    x, y = digits(16)
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        mm.TargetPropagation(recompute=recompute).backward(model, x, y)
        gradients.append([cast(Tensor, p.grad).clone() for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_a_model_of_another_library_is_probed() -> None:
    model = require_torchvision("a test").models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(1, 64, 3)
    result = mm.probe(model, (digits(40), digits(40)))
    assert len(result.layers) == 8
    assert result.layers[-1].shape == (512, 1, 1)


def test_what_cannot_be_cut_says_why() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(x)

    class Model(nn.Module):
        def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))
            self.between = between
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = self.between(block(x))
            return self.last(x)

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 0.5 * x

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return 3 * gradients[0]

    x = torch.randn(4, 4)
    cases: list[tuple[Callable[[Tensor], Tensor], str]] = [
        (lambda h: h if h.sum() > 0 else -h, "looks at numbers of its batch between its blocks .*__bool__.*line"),
        (lambda h: torch.from_numpy(h.detach().numpy()), r"looks at numbers .*\(Tensor.numpy"),
        (lambda h: cast(Tensor, Halved.apply(h)), "in training its parts, run one after another, have other gradients"),
        (lambda h: h + 1 if len(h) == 3 else h, "depends on the batch size"),
        (lambda h: h + len(h) / 2, "a float is handed on between the blocks, and is another one each time"),
    ]
    for between, why in cases:
        with pytest.raises(ValueError, match=f"Model cannot be cut into stem, layers and head: .*{why}"):
            mm.as_network(Model(between), x)
    with pytest.raises(TypeError, match=r"model is Model, which is neither .* expected an example"):
        mm.as_network(Model(lambda h: h))
    with pytest.raises(ValueError, match="example is int; expected some samples"):
        mm.as_network(Model(lambda h: h), 3)
    network = mm.as_network(Model(lambda h: h + 1), x)
    with pytest.raises(ValueError, match=r"cut at samples of shape \(4,\), and was given \(5,\)"):
        network.stem(torch.randn(2, 5))
    rewired = mm.rewire(Model(lambda h: h), "heavy_ball")
    with pytest.raises(ValueError, match="Model is rewired: .* Undo it first"):
        mm.as_network(rewired, x)
    chain = nn.Sequential(nn.Linear(4, 4), *(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))
    with pytest.raises(ValueError, match="Sequential is rewired: .* Undo it first"):
        mm.as_network(mm.rewire(chain, "heavy_ball"), x)


def test_what_comes_between_blocks_follows_the_batch_size() -> None:
    """Sizes of views, masks and positions made on the way, constants, and a tensor that is the same for all samples."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor, shift: Tensor, factor: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
            return x + self.linear(x) + factor * shift, {"mean": x.mean((1, 2))}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))
            self.table: Tensor
            self.register_buffer("table", torch.randn(9, 4))
            self.scale = nn.Parameter(torch.ones(4))
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor, *, shift: Tensor) -> dict[str, Any]:
            n, t, d = x.shape
            place = self.table[torch.arange(t)] * self.scale
            means = []
            for block in self.blocks:
                x = x.reshape(n * t, d).mul(2).view(n, -1, d)
                x, extra = block(x + place, shift=shift[:, None], factor=0.5)
                means.append(extra["mean"])
            with torch.no_grad():
                count = torch.full((n,), 1.0 * t)
            return {"logits": self.last(x.mean(1)), "means": torch.stack(means, 1), "count": count}

    model, batch = Model(), {"x": torch.randn(5, 3, 4), "shift": torch.randn(5, 4)}
    network = mm.as_network(model, batch)
    other = {"shift": torch.randn(6, 4), "x": torch.randn(6, 3, 4)}
    whole, parts = model(**other), run(network, other)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(value, parts[key])


@pytest.mark.parametrize("chain", [True, False])
def test_an_example_on_which_the_model_fails_is_named(chain: bool) -> None:
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)]
    model = nn.Sequential(*layers) if chain else _Blocks()
    with pytest.raises(ValueError, match=r"fails on an example of the shape \(3, 5\)"):
        mm.as_network(model, torch.randn(3, 5))


class _Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x
