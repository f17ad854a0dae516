"""The networks of greedy and decoupled training: sizes as published, and what layers keep."""

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import minimand as mm
from minimand._support.torch.torchvision import require_torchvision
from minimand.layers.heads import auxiliary
from minimand.models.vision.greedy import dgl_cifar, greedy_cifar, greedy_imagenet
from minimand.report.size import saved_bytes


def sizes(network: nn.Sequential) -> list[int]:
    return [sum(p.numel() for p in child.parameters()) for child in network]


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [7_168, 589_824, 4_718_592, 18_874_368, 9_437_184, 40_970]),
        (2, [3_712, 147_712, 1_180_160, 590_336, 601_098]),
        (3, [3_712, 147_712, 1_180_160, 590_336, 1_191_434]),
    ],
)
def test_cifar_networks_are_those_of_the_published_commands(k: int, expected: list[int]) -> None:
    with torch.device("meta"):
        network = greedy_cifar(k)
        assert sizes(network) == expected
        assert network.eval()(torch.empty(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("k", "width", "sides"), [(1, 256, [112, 112, 56, 28, 14, 14, 7, 7]), (3, 128, None)])
def test_imagenet_networks_double_their_channels_where_they_halve_the_map(
    k: int, width: int, sides: list[int] | None
) -> None:
    sides = sides or [112, 112, 56, 56, 28, 28, 14, 14]
    with torch.device("meta"):
        network = greedy_imagenet(k)
        x = torch.empty(2, 3, 224, 224)
        for block, side in zip(list(network)[:-1], sides, strict=True):
            x = block(x)
            assert x.shape == (2, width * 112 // side, side, side)
        assert network[-1].eval()(x).shape == (2, 1000)
    widths = [m.out_channels for m in network[-1].modules() if isinstance(m, nn.Conv2d)]
    assert widths == [2048] * (k - 1)


def test_the_last_classifier_may_be_narrower() -> None:
    with torch.device("meta"):
        large, small = greedy_cifar(3), greedy_cifar(3, head_width=64)
    assert sizes(large)[:-1] == sizes(small)[:-1]
    assert sizes(small)[-1] == 9 * 256 * 64 + 9 * 64 * 64 + 3 * 2 * 64 + 4 * 64 * 10 + 10


def test_the_operations_of_dgl_and_of_its_classifiers() -> None:
    """Multiply-adds an image, in millions, and the published overhead of the classifiers below the last."""

    def macs(module: nn.Module, x: torch.Tensor) -> float:
        with FlopCounterMode(display=False) as counter:
            module.eval()(x)
        return counter.get_total_flops() / 2e6

    with torch.device("meta"):
        x, blocks, shapes = torch.empty(1, 3, 32, 32), [], []
        for block in list(dgl_cifar())[:-1]:
            blocks.append(macs(block, x))
            x = block(x)
            shapes.append(tuple(x.shape[1:]))
        assert blocks == pytest.approx([3.5, 75.5, 151, 75.5, 151, 151], abs=0.05)
        for kind, percent in (("mlp", 5.3), ("mlp_sr", 7.9), ("cnn", 249)):
            kind = cast(Any, kind)
            heads = [macs(auxiliary(kind, s, 10, 2), torch.empty(1, *s)) for s in shapes[:-1]]
            assert 100 * sum(heads) / sum(blocks) == pytest.approx(percent, rel=0.01)


@pytest.mark.parametrize(
    ("k", "blocks", "whole"),
    [
        (1, [130, 256.5, 193, 98, 66], 579.5),
        (2, [258, 320.5, 193, 161], 514.5),
        (3, [386, 448.5, 257, 225], 578.5),
    ],
)
def test_what_a_block_keeps_is_what_the_published_code_keeps(k: int, blocks: list[float], whole: float) -> None:
    """MiB for the backward pass of a batch of 128, measured of the authors' code by the same hooks."""
    with torch.device("meta"):
        model = greedy_cifar(k)
        x, y = torch.empty(128, 3, 32, 32), torch.zeros(128, dtype=torch.long)
        plan = mm.Layerwise(k).plan(model, lambda: x[:4], 10, 1)

        def kept(module: nn.Module) -> float:
            own = nn.ModuleList([model, plan.saved])
            return saved_bytes(lambda: F.cross_entropy(module.train()(x), y), own) / 2**20

        assert [kept(problem.module) for problem in plan.problems] == pytest.approx(blocks, abs=0.6)
        assert kept(model) == pytest.approx(whole, abs=0.6)


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16", "vgg19_bn"])
def test_vgg_has_the_size_of_torchvisions(name: str) -> None:
    torchvision = require_torchvision("by a test")
    with torch.device("meta"):
        ours, theirs = mm.create_model(name), getattr(torchvision.models, name)()
        expected = [tuple(value.shape) for value in theirs.state_dict().values()]
        assert [tuple(value.shape) for value in ours.state_dict().values()] == expected
        assert len(ours.layers) == int(name[3:5]) - 3


@pytest.mark.parametrize("norm", [False, True])
def test_the_logits_of_vgg_are_torchvisions(norm: bool) -> None:
    """The same layers of torchvision, on a narrower network."""
    torchvision = require_torchvision("by a test")
    cfg = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    features = torchvision.models.vgg.make_layers(cfg, norm)
    theirs = torchvision.models.VGG(features, num_classes=7, init_weights=False)
    theirs.classifier = nn.Sequential(
        nn.Linear(64 * 49, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 7)
    )
    name = "vgg11_bn" if norm else "vgg11"
    ours = mm.create_model(name, num_classes=7, width=8, head_width=20)
    mm.models.from_timm(ours, theirs)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [greedy_cifar, greedy_imagenet])
def test_another_k_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="k is 4; expected 1, 2 or 3"):
        make(4)
    for name in ("width", "head_width"):
        with pytest.raises(ValueError, match=f"{name} is 0; expected an integer"):
            make(2, **{name: 0})
