"""What a node of a traced block does, with the facts that theorems on universality ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from ..._support.torch.internals import (
    AdaptiveAvgPoolNd,
    AvgPoolNd,
    BatchNorm,
    ConvNd,
    ConvTransposeNd,
    DropoutNd,
    MaxPoolNd,
    NormBase,
)
from .activations import acts_by_entry, is_activation, read_shape

# fmt: off
Kind = Literal[
    "dense", "convolution", "activation", "norm", "attention", "positions", "pool", "pad",
    "add", "sub", "same", "reshape", "turned", "opaque",
]
# fmt: on
"""The kinds of operations: `reshape` changes nothing but order or scale, `turned` the order of the axes."""

Mask = Literal["none", "causal", "other"]
"""The tokens that attention sees: all, those up to its own, or another choice."""


@dataclass(frozen=True)
class Operation:
    """One operation on the way through a block."""

    kind: Kind
    name: str
    """The class or the function, as an error names it."""
    channels: int | None = None
    """The number of output channels of a linear map."""
    bias: bool = False
    full: bool = True
    """Whether each output channel reads every input channel, of a linear map."""
    taps: int = 1
    """The least number of taps on an axis, of a convolution."""
    padding: str = ""
    """The padding mode, of a convolution of more than one tap."""
    lacks: str = ""
    """What keeps a convolution from reading each neighbour, or a norm from being affine."""
    odd: float | None = None
    """The slope of act(t) - act(-t), of an activation for which that is linear and not 0."""
    rectifies: bool = False
    """Whether the operation is the activation ReLU, max(t, 0)."""
    degree: int | None = None
    """The degree of an activation that is a polynomial."""
    mask: Mask = "none"


_ACTIVATIONS = tuple(
    getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "Softmax", "Softmin", "LogSoftmax", "Softmax2d", "Threshold", "GLU")
)
_FUNCTIONS = "leaky_relu log_sigmoid hard_sigmoid sin cos erf exp abs clamp clamp_min clamp_max maximum minimum"
_ACTIVATION_NAMES = {cls.__name__.lower() for cls in _ACTIVATIONS} | set(_FUNCTIONS.split())
_NORM_NAMES = {"batch_norm": "", "layer_norm": "LayerNorm", "group_norm": "GroupNorm", "rms_norm": "RMSNorm"}
_POOLS = (AvgPoolNd, MaxPoolNd, AdaptiveAvgPoolNd)
_POOL_NAMES = {"avg_pool1d", "avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "mean", "flatten"}
_MODULES: dict[Kind, tuple[type[nn.Module], ...]] = {
    "dense": (nn.Linear, nn.Bilinear),
    "convolution": (ConvNd,),
    "activation": _ACTIVATIONS,
    "attention": (nn.MultiheadAttention,),
    "same": (nn.Identity, DropoutNd),
    # What may stand between two linear maps and after them: it can be made to change nothing, or only the scale.
    "norm": (NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    "pool": (*_POOLS, nn.Flatten),
    "reshape": (nn.Unflatten,),
}
_RESHAPES = {
    *("mul", "truediv", "neg", "reshape", "view", "contiguous", "squeeze", "unsqueeze", "float", "to", "size"),
    *("getattr", "getitem", "split", "chunk", "unbind", "unflatten"),
}
_TURNS = {"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t"}
_MATRIX_NAMES = {"matmul", "mm", "bmm", "einsum", "addmm", "baddbmm", "linear", "bilinear"}
_CONVOLUTION_NAMES = {f"conv{transposed}{n}d" for n in (1, 2, 3) for transposed in ("", "_transpose")}


def is_leaf(module: nn.Module) -> bool:
    """Whether a module of anybody's is looked at as a whole; a norm that holds an activation is not."""
    if next(module.children(), None) is not None:
        return _turns(module)
    kinds = _MODULES["same"] + _MODULES["norm"] + _MODULES["pool"] + _MODULES["reshape"]
    return isinstance(module, kinds) or _turns(module) or is_activation(module)


def operation(node: fx.Node, modules: Mapping[str, nn.Module], products_of_data: bool) -> Operation:
    """The operation of a node; `products_of_data` says whether several of its inputs depend on the block's."""
    if node.op in ("placeholder", "get_attr"):
        return Operation("reshape", str(node.target))
    if node.op == "output":
        return Operation("same", "output")
    if node.op == "call_module":
        return _of_module(modules[str(node.target)], node)
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", "")).lower()
    name = name.strip("_").removeprefix("i") if name in ("iadd", "isub", "imul") else name.rstrip("_")
    if name in _CONVOLUTION_NAMES:
        return Operation("convolution", name, lacks=f"{name} is called as a function, whose taps are not read")
    if name in _ACTIVATION_NAMES:
        return _read(name, lambda t: _called(node, t))
    if name == "scaled_dot_product_attention":
        return Operation("attention", name, mask=_mask(node, 3, 5))
    if name in _NORM_NAMES:
        kind = _NORM_NAMES[name]
        return Operation("norm", kind or name, bias=True, lacks=f"{kind} between the convolutions" if kind else "")
    if name in _MATRIX_NAMES and not products_of_data:
        return Operation("dense", name, bias=True)
    if name in ("dropout", "clone", "detach"):
        return Operation("same", name)
    if name in ("add", "sub"):
        return Operation("add" if name == "add" else "sub", name)
    if name == "flatten" and len(node.args) > 1 and node.args[1] in (2, -2):
        return Operation("reshape", name)  # flattens the heads of attention, whose order it keeps
    if not products_of_data:
        kinds: dict[Kind, set[str]] = {"pad": {"pad"}, "pool": _POOL_NAMES, "reshape": _RESHAPES, "turned": _TURNS}
        for kind, names in kinds.items():
            if name in names:
                return Operation(kind, name)
    return Operation("opaque", getattr(node.target, "__name__", str(node.target)))


def _of_module(module: nn.Module, node: fx.Node) -> Operation:
    name = type(module).__name__
    if _turns(module):
        return Operation("positions", name)
    kinds: list[Kind] = [kind for kind, classes in _MODULES.items() if isinstance(module, classes)]
    kind: Kind = kinds[0] if kinds else "activation" if is_activation(module) else "opaque"
    if isinstance(module, nn.Linear):
        return Operation(kind, name, channels=module.out_features, bias=module.bias is not None)
    if isinstance(module, ConvNd):
        return _convolution(module)
    if kind == "activation":
        return _read(name, module)
    if kind == "attention":
        return Operation(kind, name, mask=_mask(node, 5, 7))
    if kind == "norm":
        bias = getattr(module, "bias", None) is not None
        is_affine = isinstance(module, BatchNorm) and module.track_running_stats
        return Operation(kind, _norm_name(module), bias=bias, lacks="" if is_affine else _norm_name(module))
    return Operation(kind, name)


def keeps_entries(passed: Operation) -> bool:
    """Whether each entry of what an operation gives is made of the entry of its input at that place."""
    return passed.kind in ("activation", "same", "add", "sub") or (
        passed.kind == "reshape" and passed.name in ("mul", "truediv", "neg", "float", "to", "contiguous")
    )


def activation_of(node: fx.Node, function: Callable[[torch.Tensor], torch.Tensor]) -> Operation | None:
    """The operation of nodes that together are one function of every entry; None where they are not."""
    name = getattr(node.target, "__name__", str(node.target))
    return _read(name, function) if acts_by_entry(function) else None


def _read(name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> Operation:
    """The operation of an activation, with what its values tell; one that is affine only scales."""
    shape = read_shape(function)
    if shape.degree is not None and shape.degree < 2:
        return Operation("reshape", name)
    return Operation("activation", name, odd=shape.odd, rectifies=shape.rectifies, degree=shape.degree)


def _turns(module: nn.Module) -> bool:
    """Whether a module turns queries and keys by their positions."""
    return any(word in type(module).__name__.lower() for word in ("rotary", "rope"))


def _norm_name(module: nn.Module) -> str:
    return next(
        kind.__name__ for kind in (nn.GroupNorm, nn.RMSNorm, nn.LayerNorm, type(module)) if isinstance(module, kind)
    )


def _convolution(module: ConvNd) -> Operation:
    taps = min(module.kernel_size)
    padding = "" if max(module.kernel_size) == 1 else module.padding_mode
    keeps = module.padding == "same" or all(
        p == d * (k - 1) // 2
        for p, d, k in zip(module.padding, module.dilation, module.kernel_size, strict=True)
        if isinstance(p, int)
    )
    reasons = {
        "a transposed convolution": isinstance(module, ConvTransposeNd),
        f"a stride of {max(module.stride)} inside the block": max(module.stride) > 1,
        f"{padding} padding": padding not in ("", "zeros", "circular"),
        f"dilation {max(module.dilation)}, without the taps next to the middle": taps > 1 and max(module.dilation) > 1,
        f"a kernel of {module.kernel_size}, without a middle": any(k % 2 == 0 for k in module.kernel_size),
        f"padding {module.padding}, which does not keep the size": not keeps,
    }
    return Operation(
        "convolution",
        type(module).__name__,
        channels=module.out_channels,
        bias=module.bias is not None,
        full=module.groups == 1,
        taps=taps,
        padding=padding,
        lacks=next((reason for reason, holds in reasons.items() if holds), ""),
    )


def _called(node: fx.Node, t: torch.Tensor) -> torch.Tensor:
    """The activation of a node on a tensor of its own."""
    if node.op == "call_method":
        return getattr(t, str(node.target))(*node.args[1:], **node.kwargs)
    function: Any = node.target
    return function(t, *node.args[1:], **{**node.kwargs, "inplace": False} if "inplace" in node.kwargs else node.kwargs)


def _mask(node: fx.Node, mask_position: int, causal_position: int) -> Mask:
    """The mask of a call of attention, by its arguments `attn_mask` and `is_causal`."""
    mask = node.kwargs.get("attn_mask", node.args[mask_position] if len(node.args) > mask_position else None)
    causal = node.kwargs.get("is_causal", node.args[causal_position] if len(node.args) > causal_position else False)
    if mask is not None and not causal:
        return "other"
    return "causal" if causal is not False else "none"
