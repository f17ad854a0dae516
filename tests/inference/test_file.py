"""Packed models in files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hardened import ready
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import minimand as mm
from minimand.inference.file import PackedFileError
from minimand.layers.weight_bits import few_bit_weight
from minimand.models.feedforward import convnet8


def _convnet(bits: int) -> nn.Module:
    model = convnet8()
    mm.harden(model, mm.Sign(), weight_bits=bits)
    return model


def _resnet(name: str, algorithm: str, bits: int) -> nn.Module:
    model = mm.create_model(name, algorithm, width=5)
    mm.harden(model, mm.QuantizedReLU(4), weight_bits=bits)
    return model


def _ends() -> nn.Module:
    """Thresholds and layers of few bits that stay torch operations; a function at the end."""
    layers = [nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3), nn.Conv2d(7, 5, 3, padding_mode="circular", padding=1)]
    layers[1:] = [few_bit_weight(layer, 2) for layer in layers[1:]]  # pyright: ignore
    middle = [mm.Sign(), layers[1], nn.LayerNorm([28, 28]), mm.Staircase(3, -0.25, 1 / 3), layers[2]]
    return nn.Sequential(layers[0], *middle, nn.AvgPool2d(4), mm.Sign(), nn.Flatten(), nn.Softplus(beta=2.0))


class _Twice(nn.Module):
    """Uses modules that stay torch operations more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bits, self.last = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3), nn.Conv2d(5, 2, 1)
        self.sign, self.norm = mm.Sign(), nn.InstanceNorm2d(5)
        self.bits = few_bit_weight(self.bits, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.bits(self.sign(self.first(x)))
        return self.last(self.sign(self.norm(z)) + self.sign(self.norm(z * z)))


MODELS: list[Callable[[], nn.Module]] = [
    lambda: _convnet(1),
    lambda: _convnet(2),
    lambda: _convnet(4),
    lambda: _convnet(8),
    lambda: _resnet("resnet20", "heavy_ball(momentum=Learnable(0.5, 0, 1))", 1),
    lambda: _resnet("preact_resnet20", "gradient_descent", 4),
    _ends,
    _Twice,
]


@pytest.mark.parametrize("make", MODELS)
def test_a_packed_model_comes_back_from_its_file(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = ready(make(), x)
    packed = mm.pack(model)
    packed.save(tmp_path / "model")
    read = mm.load_packed(tmp_path / "model")
    assert torch.equal(read(x), model(x))
    packed(x)
    assert str(read) == str(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_is_as_large_as_its_weights_are_few(tmp_path: Path) -> None:
    sizes = {}
    for bits in (1, 8):
        packed = mm.pack(_convnet(bits))
        packed.save(tmp_path / "model")
        sizes[bits] = (tmp_path / "model").stat().st_size
        assert sum(packed.sizes().values()) < sizes[bits] < sum(packed.sizes().values()) + 10_000
    assert sizes[1] < sizes[8] / 6


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """A file, and what is in it."""
    mm.pack(_convnet(1)).save(tmp_path / "model")
    with safe_open(tmp_path / "model", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tmp_path / "model", tensors, file.metadata()


def test_a_file_that_is_none(stored: Any, tmp_path: Path) -> None:
    path, tensors, metadata = stored
    with pytest.raises(FileNotFoundError, match="no packed model '.*nowhere'; packed.save"):
        mm.load_packed(tmp_path / "nowhere")
    whole = path.read_bytes()
    for count in (0, 5, 1000, len(whole) - 1):
        path.write_bytes(whole[:count])
        with pytest.raises(PackedFileError, match="is cut short or no packed model"):
            mm.load_packed(path)
    save_file(tensors, path, {**metadata, "format": "7", "minimand": "9.9"})
    with pytest.raises(PackedFileError, match="is of format 7, which minimand 9.9 wrote; this version reads format 1"):
        mm.load_packed(path)
    save_file(tensors, path)
    with pytest.raises(PackedFileError, match="does not say its format"):
        mm.load_packed(path)
    save_file({name: t for name, t in tensors.items() if name != "0.weight"}, path, metadata)
    with pytest.raises(PackedFileError, match=r"(?s)is damaged .*weight"):
        mm.load_packed(path)


@pytest.mark.parametrize(
    "node",
    [
        {"op": "call_function", "target": "torch.load"},
        {"op": "call_method", "target": "share_memory_"},
        {"op": "call_module", "target": "share_memory"},
        {"op": "placeholder", "target": "x=print('run')"},  # torch.fx would write it into code as it is
        {"op": "call_module", "target": "0", "kwargs": {"mapping": {"x=print('run'), y": 0}}},
        {"op": "nonsense", "target": "0"},
    ],
)
def test_a_file_does_not_decide_what_code_runs(node: dict[str, Any], stored: Any) -> None:
    path, tensors, metadata = stored
    content = json.loads(metadata["content"])
    content["nodes"].insert(1, {"name": "bad", "args": {"tuple": []}, "kwargs": {"mapping": {}}, **node})
    save_file(tensors, path, {**metadata, "content": json.dumps(content)})
    with pytest.raises(PackedFileError, match="is damaged"):
        mm.load_packed(path)
    content["nodes"].pop(1)
    content["modules"]["0"]["class"] = "Parameter"
    save_file(tensors, path, {**metadata, "content": json.dumps(content)})
    with pytest.raises(PackedFileError, match="is damaged"):
        mm.load_packed(path)


class _Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_what_a_file_cannot_hold_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    def network(first: nn.Module, last: nn.Module) -> nn.Module:
        layers = [first, mm.Sign(), nn.Conv2d(4, 4, 1), mm.Sign(), last]
        layers[2] = few_bit_weight(layers[2], 1)  # pyright: ignore[reportArgumentType]
        return nn.Sequential(*layers)

    real = nn.Conv2d(3, 4, 1)
    with pytest.raises(ValueError, match="calls cumsum, which a file of a packed model cannot hold"):
        mm.pack(network(real, _Own())).save(tmp_path / "model")
    with pytest.raises(ValueError, match="4 is a Opaque, which a file of a packed model cannot hold"):
        mm.pack(network(real, mm.Opaque(torch.sign, targets=lambda x, y, g: x))).save(tmp_path / "model")
    with pytest.raises(OSError, match="No such file"):
        mm.pack(network(real, nn.Flatten())).save(tmp_path / "nowhere" / "model")
    assert not list(tmp_path.iterdir())
