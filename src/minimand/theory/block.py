"""What a block T contains, as far as the theorems on universality ask: found by walking the module."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn

Truth = Literal["yes", "no", "unknown"]

_ACTIVATION_MODULES = tuple(
    getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "Softmax", "Softmin", "LogSoftmax", "Softmax2d", "Threshold")
)
_ACTIVATION_NAMES = {cls.__name__.lower() for cls in _ACTIVATION_MODULES} | {
    *("leaky_relu", "log_sigmoid", "hard_sigmoid"),
    *(f"{name}_" for name in ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "silu")),
}
_DENSE, _CONVOLUTION = nn.Linear, (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class BlockStructure:
    """What the walk found.

    two_layer: whether linear - activation - linear occurs on some path. identity: whether the input is added
    to the output on some path. convolutional: whether one of its two linear maps is a convolution.
    """

    two_layer: Truth
    identity: Truth
    convolutional: bool
    reason: str


def block_structure(block: nn.Module) -> BlockStructure:
    """Follow the data through the block with torch.fx; 'unknown' where its forward cannot be traced."""
    try:
        graph = fx.Tracer().trace(block)
    except Exception as error:  # tracing runs the user's code, which may raise anything
        why = f"torch.fx cannot trace {type(block).__name__} ({type(error).__name__})"
        return BlockStructure("unknown", "unknown", False, why)
    modules = dict(block.named_modules())
    # 1: past a linear map, 2: past an activation after it, 3: past a second linear map.
    reached: dict[fx.Node, tuple[int, bool]] = {}
    skips: set[fx.Node] = set()
    best, identity, opaque = (0, False), False, ""
    for node in graph.nodes:
        level, convolutional = max((reached[n] for n in node.all_input_nodes), default=(0, False))
        kind = _kind(node, modules)
        if kind in ("dense", "convolution"):
            level, convolutional = (3 if level >= 2 else 1), convolutional or kind == "convolution"
        elif kind == "activation":
            level = max(level, 2) if level >= 1 else 0
        elif kind == "opaque":
            opaque = str(node.target)
        reached[node] = (level, convolutional)
        best = max(best, reached[node])
        if node.op == "placeholder" or (kind == "same" and skips & set(node.all_input_nodes)):
            skips.add(node)
        elif kind == "add" and skips & set(node.all_input_nodes) and len(node.all_input_nodes) > 1:
            identity = True
    if best[0] == 3:
        found: Truth = "yes"
        why = "linear - activation - linear, through convolutions" if best[1] else "linear - activation - linear"
    else:
        found = "unknown" if opaque else "no"
        why = f"{opaque} cannot be looked into" if opaque else "no linear - activation - linear on any path"
    return BlockStructure(found, "yes" if identity else "unknown" if opaque else "no", best[1], why)


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, _DENSE):
            return "dense"
        if isinstance(module, _CONVOLUTION):
            return "convolution"
        if isinstance(module, _ACTIVATION_MODULES):
            return "activation"
        if isinstance(module, nn.Identity | nn.Dropout):
            return "same"
        # Norms, pooling and the like have no module inside that could hide a linear map.
        return "opaque" if isinstance(module, nn.MultiheadAttention | nn.RNNBase) else "other"
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", "")).lower()
    if name == "linear":
        return "dense"
    if name in ("conv1d", "conv2d", "conv3d"):
        return "convolution"
    if name in _ACTIVATION_NAMES:
        return "activation"
    if name in ("add", "iadd", "add_") or node.target in (torch.add,):
        return "add"
    return "other"
