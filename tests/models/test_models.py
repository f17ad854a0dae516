import json
import re
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from torch import nn

import minimand as mm
from helpers import BINDINGS
from minimand.models.info import MODELS, ModelInfo
from minimand.models.network import UnrolledNetwork
from minimand.models.registry import create_for
from minimand.models.stages import Bridge
from minimand.networks.protocol import is_network
from minimand.networks.unrolled import Unrolled, UnrolledLayer
from minimand.theory.kernel import Binding

SMALL: dict[str, dict[str, Any]] = {
    "hidden": {"width": 8, "depth": 3, "hidden": 4},
    "growth": {"growth": 2},
    "width": {"width": 4},
}


def _create(name: str, algorithm: str = "heavy_ball", binding: Binding | None = None) -> UnrolledNetwork:
    info = mm.model_info(name)
    settings = next(small for setting, small in SMALL.items() if setting in info.settings)
    in_channels = 12 if info.takes_vectors else 3
    return mm.create_model(name, algorithm, binding, num_classes=5, in_channels=in_channels, **settings)


def _batch(name: str) -> torch.Tensor:
    return torch.randn(2, 12) if mm.model_info(name).takes_vectors else torch.randn(2, 3, 8, 8)


# Those for ImageNet have tests of their own, at their own size.
AT_32 = [
    name
    for name, info in ((name, mm.model_info(name)) for name in mm.list_models())
    if info.takes_vectors or info.settings.get("width") == 16 or info.settings.get("growth") == 12
]


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", AT_32)
def test_every_model_is_a_network(name: str, binding: Binding) -> None:
    """stem, layers and head, step by step, are the fast forward pass; every parameter learns."""
    model = _create(name, "nesterov_y(momentum=0.3)", binding).eval()
    network: mm.Network = model
    assert is_network(network)
    x = _batch(name)
    state = network.stem(x)
    for j, layer in enumerate(network.layers):
        state = layer(state)
        assert network.read(j, state).shape[0] == 2
    torch.testing.assert_close(network.head(state), model(x), rtol=1e-4, atol=1e-5)
    assert model(x).shape == (2, 5)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters", "layers"),
    [
        # He et al. 2016: 0.27, 0.46, 0.66, 0.85, 1.7 M; Zagoruyko & Komodakis 2016: 2.7, 5.8 M
        ("resnet20", 269_722, 9),
        ("resnet32", 464_154, 15),
        ("resnet44", 658_586, 21),
        ("resnet56", 853_018, 27),
        ("resnet110", 1_727_962, 54),
        ("preact_resnet20", 269_722, 9),
        ("wrn16_4", 2_748_890, 6),
        ("wrn28_4", 5_849_050, 12),
    ],
)
def test_sizes_are_the_published_ones(name: str, parameters: int, layers: int) -> None:
    with torch.device("meta"):
        model = mm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.layers) == layers


@pytest.mark.parametrize(
    ("size", "layers", "growth", "bottleneck"),
    [("22_12", 6, 12, False), ("40_12", 12, 12, False), ("52_12", 16, 12, False), ("_bc100_12", 16, 12, True)],
)
def test_a_densenet_has_the_sizes_of_its_formula(size: str, layers: int, growth: int, bottleneck: bool) -> None:
    """Huang et al. 2017: 1.0 M with 40 layers, 0.8 M with 100 in the BC form."""

    def layer(c: int) -> int:
        if not bottleneck:
            return 2 * c + 9 * c * growth
        return 2 * c + c * 4 * growth + 2 * 4 * growth + 9 * 4 * growth * growth

    c = 24 if bottleneck else 16
    expected = 27 * c
    for stage in range(3):
        expected += sum(layer(c + k * growth) for k in range(layers))
        c += layers * growth
        if stage < 2:
            inner = c // 2 if bottleneck else c
            expected += 2 * c + c * inner
            c = inner
    expected += 2 * c + 10 * c + 10
    with torch.device("meta"):
        model = mm.create_model(f"densenet{size}")
        assert sum(p.numel() for p in model.parameters()) == expected
        assert len(model.layers) == 3 * layers + 2
        if not bottleneck:  # a factor for each pair of z's in a stage
            count = sum(p.numel() for p in mm.create_model(f"agd_net{size}").parameters())
            assert count == expected + 3 * layers * (layers + 1) // 2


def test_gradient_descent_is_the_residual_network_itself() -> None:
    """The blocks of a pre-activation ResNet give one network under both bindings, and that of its own modules."""
    models = []
    for binding in BINDINGS:
        torch.manual_seed(0)
        models.append(_create("preact_resnet20", "gradient_descent", binding).eval())
    x = _batch("preact_resnet20")
    torch.testing.assert_close(models[0](x), models[1](x))
    model = models[0]
    h = model.stem.module(x)
    for part in model.body:
        if isinstance(part, nn.Module) and hasattr(part, "layers"):
            for layer in cast(nn.ModuleList, part.layers):
                h = h + cast(nn.Module, layer.block)(h)
        else:
            h = cast(nn.Module, part.module)(h)
    torch.testing.assert_close(model.head.module(h), model(x))


def test_history_restarts_at_every_transition() -> None:
    """What a stage does depends on its input only, not on what came before."""
    model = _create("resnet20", "heavy_ball(momentum=0.9)").eval()
    x = torch.randn(2, 8, 4, 4)
    second = model.stages[1]
    before = second(x)
    model(_batch("resnet20"))
    assert torch.equal(second(x), before)
    state = second.start(x)
    assert torch.equal(state[0], state[1])


@pytest.mark.parametrize("name", ["mlp", "resnet20", "preact_resnet20", "agd_net40_12"])
def test_saved_and_loaded_models_are_the_same(name: str, tmp_path: Path) -> None:
    model = _create(name, "heavy_ball(momentum=Learnable(0.5, 0, 1))").eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"] == name
    assert (tmp_path / "model.safetensors").is_file()
    loaded = UnrolledNetwork.from_pretrained(tmp_path).eval()
    x = _batch(name)
    assert torch.equal(loaded(x), model(x))
    assert loaded.config == model.config


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"num_tokens": 9}, "(7, 8) here and (9, 8) there; num_tokens (the vocabulary) is 7 here and seems to be 9"),
        ({"context": 6}, "positions.weight is (5, 8) here and (6, 8) there; context is 5 here and seems to be 6 there"),
        ({"depth": 2}, "body.0.layers.2.block.inner.project.bias is missing here and (8,) there"),
        ({"algorithm": "heavy_ball(momentum=Learnable(0, 0, 1))"}, "body.0.coefficients.momentum is missing here"),
        ({"tied": False}, "stem.module.table.tokens.weight and head.module.1.weight are one parameter here, and two"),
    ],
)
def test_weights_of_another_model_are_refused_in_words(theirs: dict[str, Any], says: str, tmp_path: Path) -> None:
    sizes = {"depth": 1, "width": 8, "heads": 1, "num_tokens": 7, "context": 5}
    model, other = (mm.create_model("gpt_nano", **{**sizes, **settings}) for settings in ({}, theirs))
    with pytest.raises(RuntimeError, match=re.escape(says)):
        model.load_state_dict(other.state_dict())
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="weights"):
        UnrolledNetwork.from_pretrained(tmp_path, **{"tied": True, "algorithm": "gradient_descent", **sizes})
    model.load_state_dict(model.state_dict())


def test_a_folder_never_decides_what_code_runs(tmp_path: Path) -> None:
    class Own(mm.algorithms.HeavyBall):
        pass

    model = mm.create_model("mlp", Own(), in_channels=4)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'own:Own\(.* pass algorithm="):
        UnrolledNetwork.from_pretrained(tmp_path)
    loaded = UnrolledNetwork.from_pretrained(tmp_path, algorithm=Own())
    assert isinstance(loaded.algorithm, Own)


def test_a_folder_that_names_a_file_does_not_run_it(tmp_path: Path) -> None:
    mark, config = tmp_path / "ran", tmp_path / "config.json"
    (tmp_path / "evil.py").write_text(
        f"import minimand as mm\nopen({str(mark)!r}, 'w').close()\nclass My(mm.algorithms.HeavyBall): pass"
    )
    _create("mlp").save_pretrained(tmp_path)
    config.write_text(json.dumps({**json.loads(config.read_text()), "algorithm": f"{tmp_path}/evil.py:My"}))
    with pytest.raises(ValueError, match="a folder never decides what code runs"):
        UnrolledNetwork.from_pretrained(tmp_path)
    assert not mark.exists()
    assert (
        type(UnrolledNetwork.from_pretrained(tmp_path, algorithm=f"{tmp_path}/evil.py:My").algorithm).__name__ == "My"
    )


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    model = mm.create_model("mlp", num_classes=np.int64(3), in_channels=4)  # type: ignore[arg-type]
    model.save_pretrained(tmp_path)
    assert UnrolledNetwork.from_pretrained(tmp_path).num_classes == 3
    assert model(torch.zeros(0, 4)).shape == (0, 3)


def test_models_fit_the_data() -> None:
    assert create_for("mlp(width=16)", (1, 8, 8), 10).in_channels == 64
    assert create_for("resnet20", (1, 8, 8), 7).num_classes == 7
    with pytest.raises(
        ValueError, match=r"resnet20 takes images, but a sample has the shape \(2,\); mlp takes vectors"
    ):
        create_for("resnet20", (2,), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.create_model("resnet_20"), r"unknown model 'resnet_20'\. Did you mean 'resnet20'"),
        (lambda: mm.create_model("resnet21"), "Did you mean 'resnet20'"),
        (lambda: mm.create_model("resnet20", widht=8), "unknown setting of resnet20 'widht'. Did you mean 'width'"),
        (lambda: mm.create_model("resnet20", num_classes=-1), "num_classes is -1; expected an integer of at least 0"),
        (lambda: mm.create_model("resnet20", num_classes=True), "num_classes is True; expected an integer"),
        (lambda: mm.create_model("resnet20", in_channels=1.5), "in_channels is 1.5"),  # type: ignore[arg-type]
        (lambda: mm.create_model("mlp", width=0), "width is 0; expected an integer of at least 1"),
        (lambda: mm.create_model("mlp", width="a"), "width is 'a'; expected an integer of at least 1"),
        (lambda: mm.create_model("resnet20", width=-2), "width is -2; expected an integer of at least 1"),
        (lambda: mm.create_model("vit_tiny", drop_path=1), "drop_path is 1; expected a probability of at least 0"),
        (lambda: mm.create_model("vit_tiny", drop_path="a"), "drop_path is 'a'; expected a probability"),
        (lambda: mm.create_model("vit_tiny", drop_path=float("nan")), "drop_path is nan; expected a probability"),
        (lambda: mm.create_model("vit_tiny", drop_path=True), "drop_path is True; expected a probability"),
        (lambda: mm.create_model("resnet18", drop_path=0.1), "unknown setting of resnet18 'drop_path'"),
        (lambda: create_for("mlp(num_classes=3)", (4,), 2), "unknown setting of mlp 'num_classes'"),
        (lambda: mm.create_model("resnet20", "heavyball"), "Did you mean 'heavy_ball'"),
        (
            lambda: mm.create_model("resnet20")(torch.randn(2, 1, 8, 8)),
            r"shape \(2, 1, 8, 8\); expected \(N, 3, H, W\)",
        ),
        (lambda: mm.create_model("mlp", in_channels=4)(torch.randn(2, 5)), "expected .* with 4 numbers per sample"),
    ],
)
def test_bad_input(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_name_stands_in_the_file_of_its_family() -> None:
    """A name can be found by grep."""
    text = "".join(file.read_text() for file in Path(mm.models.__path__[0]).rglob("*.py"))
    assert [name for name in mm.list_models() if f'"{name}"' not in text] == []


@pytest.mark.soak
def test_the_models_of_imagenet_have_its_classes_by_default() -> None:
    with torch.device("meta"):
        for name, info in ((name, mm.model_info(name)) for name in mm.list_models()):
            if info.takes_tokens:
                continue
            model = mm.create_model(name)
            is_imagenet = info.image_size == 224 and info.takes_images
            assert model.num_classes == (1000 if is_imagenet else 10), name
            layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
            assert layers[-1].out_features == model.num_classes, name


def test_a_package_of_somebody_else_brings_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value, module, dist = "perceptron", "theirs:perceptron", "theirs", None

        def load(self) -> ModelInfo:
            def build(num_classes: int, in_channels: int, width: "int | None" = None, kind: "Literal['a', 'b']" = "a"):
                return nn.Sequential(nn.Linear(in_channels, width or 4), nn.ReLU(), nn.Linear(width or 4, num_classes))

            settings = {"width": None, "kind": "a"}
            return ModelInfo("perceptron", "theirs", build, settings, None, (), takes_vectors=True, num_classes=2)

    known = dict(MODELS)
    with monkeypatch.context() as patch:
        patch.setattr(
            "minimand._support.names.registry.entry_points",
            lambda group: [Point()] if group == "minimand.models" else [],
        )
        patch.setattr(MODELS, "_is_loaded", False)
        patch.setattr(MODELS, "_things", known)
        assert mm.list_models("perc*") == {"perceptron": "theirs"}
        model = create_for("perceptron(width=3)", (2, 3), 5)
        assert model(torch.zeros(1, 6)).shape == (1, 5)
        with pytest.raises(ValueError, match="kind is 'c'; expected one of 'a', 'b'"):
            mm.create_model("perceptron", kind="c", in_channels=6)
    assert "perceptron" not in mm.list_models()


def test_names_are_listed_by_pattern() -> None:
    assert list(mm.list_models("wrn*")) == ["wrn16_4", "wrn28_4"]
    assert all(line == mm.model_info(name).description for name, line in mm.list_models().items())
    assert all(mm.model_info(name).references for name in mm.list_models())
    assert mm.list_models("no_such_model") == {}


def test_names_with_an_algorithm_are_listed_where_no_plain_one_matches() -> None:
    unrolled = [name for name in mm.list_models() if mm.model_info(name).binding is not None]
    assert list(mm.list_models("apg2_*")) == [f"apg2_{name}" for name in unrolled]
    assert list(mm.list_models("*convnext_tiny")) == ["convnext_tiny"]
    assert list(mm.list_models("linearized_admm_wrn*")) == ["linearized_admm_wrn16_4", "linearized_admm_wrn28_4"]
    assert mm.list_models("ista_*") == {}  # it needs a known prox
    for name in mm.list_models("*_mlp"):
        assert mm.create_model(name, in_channels=4, width=4, depth=2)(torch.randn(2, 4)).shape == (2, 10)


def test_hb_net_is_as_printed() -> None:
    """x_next = T(x) + x - x_previous in each stage (Li et al. 2018, 1.7 of the facts); as many parameters as ResNet."""
    torch.manual_seed(0)
    model = mm.create_model("hb_net20").eval()
    x = torch.randn(2, 3, 8, 8)
    y = model.stem.module(x)
    for part in model.body:
        if isinstance(part, Unrolled):
            previous = y
            for layer in part.layers:
                y, previous = cast(UnrolledLayer, layer).block(y) + y - previous, y
        else:
            y = cast(Bridge, part).module(y)
    torch.testing.assert_close(model(x), model.head.module(y), rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in model.parameters()) == 269_722


def test_dmrnet_is_as_printed() -> None:
    """z_next = T(z) + (z + y) / 2, y_next = T'(y) + (z + y) / 2 in each stage (Li et al. 2018, equation 20)."""
    torch.manual_seed(0)
    model = mm.create_model("dmrnet20").eval()
    x = torch.randn(2, 3, 8, 8)
    h = model.stem.module(x)
    for part in model.body:
        if isinstance(part, Unrolled):
            z = y = h
            for layer in part.layers:
                first, second = (cast(nn.ModuleDict, cast(UnrolledLayer, layer).block)[f"gradient_{s}"] for s in "fg")
                z, y = first(z) + (z + y) / 2, second(y) + (z + y) / 2
            h = (z + y) / 2
        else:
            h = cast(Bridge, part).module(h)
    torch.testing.assert_close(model(x), model.head.module(h), rtol=1e-4, atol=1e-4)
    # ResNet's, and the second stream's blocks of two convolutions and two normalizations.
    second_stream = sum(n * (2 * 9 * c * c + 4 * c) for n, c in ((3, 16), (2, 32), (2, 64)))
    assert sum(p.numel() for p in model.parameters()) == 269_722 + second_stream


def test_a_name_may_say_the_algorithm() -> None:
    model = mm.create_model("apg2_preact_resnet20")
    assert model.algorithm == mm.algorithms.NesterovY()
    assert mm.create_model("heavy_ball_resnet20", "fista").algorithm == mm.algorithms.Fista()
    assert mm.model_info("linearized_admm_mlp").algorithm == "linearized_admm"
    with pytest.raises(ValueError, match="unknown model 'apg3_resnet20'"):
        mm.create_model("apg3_resnet20")


@pytest.mark.parametrize("algorithm", ["linearized_admm", "merge_and_run"])
def test_two_oracles_are_two_blocks_in_a_layer(algorithm: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mm.create_model("preact_resnet20", algorithm, width=4).eval()
    layers = [layer for stage in model.stages for layer in stage.layers]
    assert all(set(cast(nn.ModuleDict, layer.block)) == {"gradient_f", "gradient_g"} for layer in layers)
    x = torch.randn(2, 3, 8, 8)
    state = model.stem(x)
    for layer in model.layers:
        state = layer(state)
    torch.testing.assert_close(model.head(state), model(x), rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(mm.UnrolledNetwork.from_pretrained(tmp_path).eval()(x), model(x))
    assert "gradient_f" in str(mm.explain(model))
