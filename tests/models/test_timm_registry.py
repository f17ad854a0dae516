"""Our models through timm's front door."""

from typing import Any

import pytest
import torch

import minimand as mm
from minimand._support.torch.torchvision import require_timm

SMALL = {
    "apg2_convnext_atto": {},
    "heavy_ball_resnet18": {"width": 4},
    "linearized_admm_vit_tiny": {"img_size": 32, "patch": 8, "width": 12, "depth": 4},
    "hb_net20": {"width": 4},
}


@pytest.fixture(scope="module")
def timm() -> Any:
    import minimand.vision  # noqa: F401  (registers ours)

    return require_timm()


def test_timm_has_every_model_of_images_and_keeps_its_own(timm: Any) -> None:
    infos = {name: mm.model_info(name) for name in mm.list_models()}
    names = [name for name, info in infos.items() if info.binding is not None and info.takes_images]
    names += [f"{algorithm}_{name}" for algorithm in ("apg2", "fista", "merge_and_run") for name in names]
    assert set(names) <= set(timm.list_models())
    ours = set(timm.list_models(module="timm_registry"))
    shared = {
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnext50_32x4d",
        "resnext101_32x8d",
        *(f"densenet{depth}" for depth in (121, 169, 201)),
        *(f"convnext_{x}" for x in ("atto", "tiny", "small", "base")),
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    }
    assert set(names) - ours == shared
    assert not [
        name
        for name in ours
        if name.endswith(("mlp", "highway", "convnet8", "greedy_cifar")) or name.startswith("ista_")
    ]
    assert not ours & set(timm.list_models(pretrained=True))


@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_timm_is_ours(timm: Any, name: str) -> None:
    """The same for a seed, with timm's names for its settings; and it trains."""
    settings = SMALL[name]
    own = {"image_size" if key == "img_size" else key: value for key, value in settings.items()}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, in_chans=2, **settings)
    torch.manual_seed(0)
    expected = mm.create_model(name, num_classes=5, in_channels=2, **own)
    assert model.config == expected.config
    x, y = torch.randn(4, 2, 32, 32), torch.arange(4)
    assert torch.equal(model.eval()(x), expected.eval()(x))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("name", "features"), list(zip(SMALL, [4, 4, 3, 3], strict=True)))
def test_features_only(timm: Any, name: str, features: int) -> None:
    """By default those of every stage, or of the last three layers; nothing is left that they do not need."""
    net = timm.create_model(name, features_only=True, **SMALL[name])
    maps = net(torch.randn(2, 3, 32, 32))
    assert [y.shape[1] for y in maps] == net.feature_info.channels()
    assert [32 // y.shape[2] for y in maps] == net.feature_info.reduction()
    assert len(maps) == features
    torch.stack([y.square().sum() for y in maps]).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_some_features_of_a_network(timm: Any) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("heavy_ball_resnet18", width=4).eval()
    torch.manual_seed(0)
    net = timm.create_model("heavy_ball_resnet18", width=4, features_only=True, out_indices=(0, -3)).eval()
    x = torch.randn(2, 3, 64, 64)
    for y, z in zip(net(x), whole.forward_intermediates(x, (0, 1), intermediates_only=True), strict=True):
        assert torch.equal(y, z)
    assert net.feature_info.channels() == [4, 8]
    torch.stack([y.square().sum() for y in net(x)]).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_model_says_what_data_it_was_made_for(timm: Any) -> None:
    for name, side, classes in (("hb_net20", 32, 10), ("apg2_resnet18", 224, 1000), ("apg2_vit_tiny", 224, 1000)):
        with torch.device("meta"):
            model = timm.create_model(name)
        assert model.num_classes == model.default_cfg["num_classes"] == classes
        assert model.default_cfg["architecture"] == name
        assert timm.data.resolve_model_data_config(model)["input_size"] == (3, side, side)


def test_settings_go_by_the_names_of_timm(timm: Any) -> None:
    with torch.device("meta"):
        model = timm.create_model("apg2_vit_tiny", drop_path_rate=0.2, img_size=(64, 64), num_classes=0)
        assert model.config["drop_path"] == 0.2
        assert model.config["image_size"] == 64
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 192)
        # What timm's own script passes by default.
        assert timm.create_model("apg2_resnet18", drop_rate=0.0, drop_path_rate=0.0).config["model"] == "apg2_resnet18"
        other = timm.create_model("resnet20", algorithm="heavy_ball(momentum=0.3)")
        assert other.algorithm == mm.algorithms.HeavyBall(momentum=0.3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pretrained": True}, RuntimeError, "No pretrained weights exist for apg2_resnet18"),
        ({"drop_rate": 0.1}, ValueError, "drop_rate is 0.1; expected 0: apg2_resnet18 has no dropout"),
        ({"drop_path_rate": 0.1}, ValueError, "unknown setting of apg2_resnet18 'drop_path'"),
        ({"img_size": (32, 64)}, ValueError, r"img_size is \(32, 64\); expected a square"),
        ({"global_pool": "max"}, ValueError, "unknown setting of apg2_resnet18 'global_pool'"),
    ],
)
def test_what_a_model_does_not_have(timm: Any, arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        timm.create_model("apg2_resnet18", **arguments)
