"""Modules and values of packed models as JSON: of a fixed list of classes, no larger than the tensors beside them."""

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import layers
from .._support.errors import MinimandError
from ..layers.normalization import InstanceNormOfMaps
from ..layers.reshaping import FlattenOf
from ..layers.weight_bits import FEW_BIT_LAYERS, check_bits
from . import steps

_STEPS = (steps.PackReal, steps.PackedLayer, steps.Unpack, steps.Pool, steps.AsVectors, steps.Shortcut)
_THRESHOLDS = (layers.Sign, layers.Heaviside, layers.QuantizedReLU, layers.Staircase)
# Of torch's modules those whose arguments are attributes; what they hold follows from these in time that is constant.
_TORCH = """
    Linear Conv{1d,2d,3d} ConvTranspose{1d,2d,3d} BatchNorm{1d,2d,3d} InstanceNorm{1d,2d,3d} GroupNorm LayerNorm RMSNorm
    LocalResponseNorm Identity Flatten Unflatten Dropout Dropout{1d,2d,3d} AlphaDropout FeatureAlphaDropout ReLU ReLU6
    LeakyReLU PReLU ELU SELU CELU GELU SiLU Mish Sigmoid Tanh LogSigmoid Softplus Softsign Softshrink Hardshrink
    Hardtanh Hardsigmoid Hardswish Tanhshrink Threshold GLU Softmax Softmax2d LogSoftmax Softmin AvgPool{1d,2d,3d}
    MaxPool{1d,2d,3d} LPPool{1d,2d,3d} AdaptiveAvgPool{1d,2d,3d} AdaptiveMaxPool{1d,2d,3d} ZeroPad{1d,2d,3d}
    ReflectionPad{1d,2d,3d} ReplicationPad{1d,2d,3d} ConstantPad{1d,2d,3d} CircularPad{1d,2d,3d} Upsample PixelShuffle
    PixelUnshuffle ChannelShuffle
"""
_TORCH_NAMES = [
    name.replace("{1d,2d,3d}", size)
    for name in _TORCH.split()
    for size in (("1d", "2d", "3d") if "{" in name else ("",))
]
_OWN = (*_STEPS, *_THRESHOLDS, *FEW_BIT_LAYERS.values(), FlattenOf, InstanceNormOfMaps)
# Files name a class as it is called, two of our own excepted.
_NAMES: dict[type[nn.Module], str] = {kind: kind.__name__ for kind in (*_OWN, *(getattr(nn, n) for n in _TORCH_NAMES))}
_NAMES |= {steps.PackReal: "Pack", steps.PackedLayer: "Layer"}
CLASSES: dict[str, type[nn.Module]] = {name: kind for kind, name in _NAMES.items()}
"""Every class of modules that a file of a packed model can hold, by its name there."""
_DTYPES = {"integers": (torch.int8,), "flip": (torch.bool,), "after": (torch.bool,)}
_NO_ATTRIBUTES = {"device", "dtype", "min_value", "max_value"}  # the last two are other names in Hardtanh
_REAL = (torch.float32, torch.int32)


def describe_module(label: str, module: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The class of a module with the arguments that make it, which it has as attributes; and its tensors.

    Raises MinimandError, which names the module by its label, where a file cannot hold it.
    """
    kind = type(module)
    names = [
        n for n, p in inspect.signature(kind).parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    names = [n for n in names if n not in _NO_ATTRIBUTES]
    if kind not in _NAMES or not all(hasattr(module, n) for n in names):
        raise MinimandError(
            f"{label} is a {kind.__name__}, which a file of a packed model cannot hold; it can hold modules of "
            "torch.nn that are layers, normalizations, activations or pooling."
        )
    arguments = {n: plain(_argument(module, n)) for n in names}
    tensors = dict(module.state_dict())
    if isinstance(module, steps.PackedLayer):
        tensors["integers"] = _squeezed(module.integers, module.bits)
        arguments["shape"] = plain(tuple(module.integers.shape))
    attributes = {n: getattr(module, n) for n in ("bits", "unit")} if isinstance(module, layers.FewBitLayer) else {}
    return {"class": _NAMES[kind], "arguments": arguments, "more": attributes}, tensors


def _argument(module: nn.Module, name: str) -> Any:
    value = getattr(module, name)
    if not isinstance(module, _STEPS):  # torch's layers take bias=True, not the tensor
        return isinstance(value, Tensor) if name == "bias" else value
    return {"tensor": name} if isinstance(value, Tensor) else value


def make_module(description: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """The module of a description; raises MinimandError where the tensors are not those of its arguments.

    Nothing is allocated for what the arguments claim: the file's tensors become the module's.
    """
    name = description["class"]
    if name not in CLASSES:
        raise MinimandError(f"it names {name!r}, which a file may not")
    kind = CLASSES[name]
    arguments = {key: restored(value, tensors) for key, value in description["arguments"].items()}
    if kind in _STEPS:
        return _step(kind, arguments).eval()
    with torch.device("meta"):
        module = kind(**arguments)
    own = module.state_dict()
    shown = [{key: (tuple(t.shape), t.dtype) for key, t in part.items()} for part in (own, tensors)]
    if shown[0] != shown[1]:
        raise MinimandError(f"{name} has tensors {shown[1]}; expected {shown[0]}")
    module.load_state_dict(tensors, assign=True)
    if isinstance(module, layers.FewBitLayer):
        module.bits, module.unit = description["more"]["bits"], float(description["more"]["unit"])
        check_bits(module.bits)
    return module.eval()


def _step(kind: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    if kind is steps.PackedLayer:
        shape = arguments.pop("shape")
        arguments["integers"] = _unsqueezed(arguments["integers"], arguments["bits"], shape)
    for key, value in arguments.items():
        if isinstance(value, Tensor) and value.dtype not in _DTYPES.get(key, _REAL):
            raise MinimandError(f"{key} is of {value.dtype}; expected {_DTYPES.get(key, _REAL)}")
    if kind is steps.PackedLayer:
        outputs = len(arguments["integers"])
        for key in ("scale", "bias", "flip", "after", "thresholds"):
            if (tensor := arguments[key]) is not None and tensor.shape[-1:] != (outputs,):
                raise MinimandError(f"{key} is of shape {tuple(tensor.shape)}; expected one of {outputs} channels")
    return kind(**arguments)


def plain(value: Any) -> Any:
    """A value of a graph or an argument as JSON: what JSON has no word for, is a mapping."""
    match value:
        case fx.Node():
            return {"node": value.name}
        case slice():
            return {"slice": [plain(part) for part in (value.start, value.stop, value.step)]}
        case tuple():
            return {"tuple": [plain(part) for part in value]}
        case list():
            return [plain(part) for part in value]
        case {"tensor": str()} | None | bool() | int() | float() | str():
            return value
        case dict():
            return {"mapping": {key: plain(part) for key, part in value.items()}}
    raise MinimandError(f"the model uses {value!r}, which a file of a packed model cannot hold.")


def restored(value: Any, known: dict[str, Any]) -> Any:
    """The inverse of `plain`, with nodes or tensors by name."""
    match value:
        case {"node": name} | {"tensor": name}:
            return known[name]
        case {"slice": parts}:
            return slice(*(restored(part, known) for part in parts))
        case {"tuple": parts}:
            return tuple(restored(part, known) for part in parts)
        case {"mapping": parts}:
            return {key: restored(part, known) for key, part in parts.items()}
        case list():
            return [restored(part, known) for part in value]
    return value


def _squeezed(integers: Tensor, bits: int) -> Tensor:
    """Integers of few bits as bytes, 8 / bits in each."""
    if bits == 8:
        return integers.flatten()
    codes = (integers.flatten() > 0) if bits == 1 else integers.flatten() + 2 ** (bits - 1)
    codes = F.pad(codes.to(torch.uint8), (0, -len(codes) % (8 // bits))).view(-1, 8 // bits)
    return (codes << torch.arange(0, 8, bits)).sum(1).to(torch.uint8)


def _unsqueezed(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `_squeezed`; raises MinimandError where the bytes are not those of the shape."""
    check_bits(bits)
    count = math.prod(shape)
    if min(shape, default=0) < 1 or len(packed) != -(-count * bits // 8):
        raise MinimandError(f"weights {shape} of {bits} bits are not {len(packed)} bytes")
    if bits == 8:
        return packed.view(shape)
    codes = (packed[:, None] >> torch.arange(0, 8, bits, dtype=torch.uint8)) & (2**bits - 1)
    codes = codes.flatten()[:count].view(shape).to(torch.int8)
    return 2 * codes - 1 if bits == 1 else codes - 2 ** (bits - 1)
