"""Packed models in files."""

import inspect
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hardened import ready
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

import minimand as mm
from minimand._support.sealed import read_tensors, sealed_tensors
from minimand.inference.file import PackedFileError
from minimand.inference.file_modules import CLASSES, describe_module, make_module
from minimand.layers.weight_bits import few_bit_weight
from minimand.models.vision.feedforward import convnet8


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


def _seal(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], form: int = 1) -> None:
    """Write a file with a right checksum, as a program that means harm could."""
    more = {name: text for name, text in metadata.items() if name not in ("checksum", "kind", "format")}
    path.write_bytes(b"".join(map(bytes, sealed_tensors("packed model", form, tensors, more))))


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """A file, and what is in it."""
    mm.pack(_convnet(1)).save(tmp_path / "model")
    return tmp_path / "model", *read_tensors(tmp_path / "model", "packed model", 1)


def test_a_file_that_is_none(stored: Any, tmp_path: Path) -> None:
    path, tensors, metadata = stored
    with pytest.raises(FileNotFoundError, match="no packed model '.*nowhere'; packed.save"):
        mm.load_packed(tmp_path / "nowhere")
    whole = path.read_bytes()
    for count in (0, 5, 1000, len(whole) - 1):
        path.write_bytes(whole[:count])
        with pytest.raises(PackedFileError, match="is cut short"):
            mm.load_packed(path)
    _seal(path, tensors, {**metadata, "minimand": "9.9"}, form=7)
    with pytest.raises(PackedFileError, match="is of format 7, which minimand 9.9 wrote; this version reads format 1"):
        mm.load_packed(path)
    path.write_bytes(b"".join(map(bytes, sealed_tensors("checkpoint", 1, tensors, metadata))))
    with pytest.raises(PackedFileError, match="is a checkpoint of minimand; expected a packed model"):
        mm.load_packed(path)
    _seal(path, {name: t for name, t in tensors.items() if name != "0.weight"}, metadata)
    with pytest.raises(PackedFileError, match=r"(?s)is damaged .*weight"):
        mm.load_packed(path)


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), cut=st.sampled_from([0, 0, 0, 1, 1000]))
def test_every_change_of_a_file_is_noticed(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, place: float, mask: int, cut: int
) -> None:
    content = bytearray(whole[: -cut or None])
    content[int(place * len(content))] ^= mask
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    with pytest.raises(PackedFileError, match="cut short"):
        mm.load_packed(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "model"
    mm.pack(_convnet(1)).save(path)
    return path.read_bytes()


CLAIMS: dict[str, dict[str, Any]] = {
    "a large layer": {"class": "Linear", "arguments": {"in_features": 20_000, "out_features": 20_000, "bias": True}},
    "a larger layer": {"class": "Conv2d", "arguments": {"in_channels": 2**40, "out_channels": 2**40, "kernel_size": 3}},
    "many layers": {"class": "LSTM", "arguments": {"input_size": 9, "hidden_size": 9, "num_layers": 10_000_000}},
    "a large normalization": {"class": "LayerNorm", "arguments": {"normalized_shape": [100_000, 100_000]}},
    "many levels": {"class": "Staircase", "arguments": {"steps": 2**40}},
    "large levels": {"class": "Unpack", "arguments": {"levels": {"tensor": "none"}}},
    "many weights": {
        "class": "Layer",
        "arguments": {"integers": {"tensor": "weight"}, "bits": 1, "shape": {"tuple": [2**40, 2**20]}},
    },
    "a stack": {"class": "Sequential", "arguments": {}},
    "a function": {"class": "functional", "arguments": {}},
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_file_makes_nothing_larger_than_itself(claim: dict[str, Any], stored: Any) -> None:
    path, tensors, metadata = stored
    content = json.loads(metadata["content"])
    content["modules"]["0"] = {"more": {}, **claim}
    _seal(path, tensors, {**metadata, "content": json.dumps(content)})
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PackedFileError, match="is damaged"):
        mm.load_packed(path)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{}", "[]", "3", '{"modules": 3}', '{"modules": {}, "nodes": {}, "labels": {}}', "\ud800"]
)
def test_contents_that_are_none(text: str, stored: Any) -> None:
    path, tensors, metadata = stored
    _seal(path, tensors, {**metadata, "content": text.encode("utf-8", "replace").decode()})
    with pytest.raises(PackedFileError, match="is damaged"):
        mm.load_packed(path).forward(torch.zeros(1, 3, 32, 32))


ENDS: list[Callable[[], nn.Module]] = [
    *(lambda kind=kind: kind() for kind in (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)),
    *(lambda kind=kind: kind(4) for kind in (nn.BatchNorm2d, nn.PReLU)),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.LayerNorm(5),
    lambda: nn.RMSNorm(5),
    lambda: nn.Conv2d(4, 2, 3, groups=2),
    lambda: nn.ConvTranspose2d(4, 2, 3),
    lambda: nn.Linear(5, 2, bias=False),
    lambda: nn.AdaptiveAvgPool2d(1),
    lambda: nn.ZeroPad2d(1),
    lambda: nn.Upsample(scale_factor=2),
    lambda: nn.PixelShuffle(2),
    lambda: nn.Softmax(1),
    lambda: nn.LeakyReLU(0.3),
]


@pytest.mark.parametrize("make", ENDS)
def test_layers_of_torch_come_back_from_a_file(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    bits = few_bit_weight(nn.Conv2d(4, 4, 1), 1)
    packed = mm.pack(nn.Sequential(nn.Conv2d(3, 4, 1), mm.Sign(), bits, make()))
    packed.save(tmp_path / "model")
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(mm.load_packed(tmp_path / "model")(x), packed(x))


def _with_small_arguments(kind: type[nn.Module]) -> nn.Module:
    if kind is nn.Unflatten:
        return kind(1, (2, 2))
    parameters = inspect.signature(kind).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return kind(*[2] * len(required))


@pytest.mark.parametrize("name", sorted(name for name, kind in CLASSES.items() if kind.__module__.startswith("torch.")))
def test_every_class_of_torch_is_described_and_made(name: str) -> None:
    module = _with_small_arguments(CLASSES[name])
    description, tensors = describe_module(name, module)
    twin = make_module(json.loads(json.dumps(description)), tensors)
    assert repr(twin) == repr(module)
    assert describe_module(name, twin)[0] == description


def test_what_runs_on_and_on_is_in_no_file() -> None:
    shown = {name for name, kind in CLASSES.items() if kind.__module__.startswith("torch.nn")}
    assert {"Linear", "Conv3d", "LayerNorm"} <= shown
    assert not shown & {"LSTM", "Sequential", "Embedding", "MultiheadAttention", "Transformer"}


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
    _seal(path, tensors, {**metadata, "content": json.dumps(content)})
    with pytest.raises(PackedFileError, match="is damaged"):
        mm.load_packed(path)
    content["nodes"].pop(1)
    content["modules"]["0"]["class"] = "Parameter"
    _seal(path, tensors, {**metadata, "content": json.dumps(content)})
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
