"""What a block T contains, as far as the theorems on universality ask: found by walking the module."""

from dataclasses import dataclass
from typing import Literal

from torch import fx, nn

from .._support.errors import WrongTypeError
from .._support.torch_internals import AdaptiveAvgPoolNd, AvgPoolNd, ConvNd, DropoutNd, MaxPoolNd, NormBase

Truth = Literal["yes", "no", "unknown"]

_ACTIVATION_MODULES = tuple(
    getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "Softmax", "Softmin", "LogSoftmax", "Softmax2d", "Threshold")
)
_FUNCTIONS = "leaky_relu log_sigmoid hard_sigmoid sin cos erf exp abs clamp clamp_min clamp_max maximum minimum"
_ACTIVATION_NAMES = {cls.__name__.lower() for cls in _ACTIVATION_MODULES} | set(_FUNCTIONS.split())
_POOLING = (AvgPoolNd, MaxPoolNd, AdaptiveAvgPoolNd)
_MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "dense": (nn.Linear, nn.Bilinear),
    "convolution": (ConvNd,),
    "activation": _ACTIVATION_MODULES,
    "same": (nn.Identity, DropoutNd),
    # What may stand between the two linear maps and after them: it can be made to change nothing, or only the scale.
    "harmless": (NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *_POOLING, nn.Flatten, nn.Unflatten),
}
_HARMLESS_NAMES = {
    *("mul", "truediv", "neg", "flatten", "reshape", "view", "permute", "transpose", "contiguous", "squeeze"),
    *("unsqueeze", "movedim", "swapaxes", "batch_norm", "layer_norm", "group_norm", "rms_norm", "pad", "float", "to"),
    *("avg_pool1d", "avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "mean", "size", "getattr", "getitem"),
}
_MATRIX_NAMES = {"matmul", "mm", "bmm", "einsum", "addmm", "baddbmm", "linear", "bilinear"}
_CONVOLUTION_NAMES = {f"conv{transposed}{n}d" for n in (1, 2, 3) for transposed in ("", "_transpose")}


@dataclass(frozen=True)
class BlockStructure:
    """The structure of a block, as far as it could be read."""

    two_layer: Truth
    """Whether linear - activation - linear leads to the output."""
    identity: Truth
    """Whether the input is added to the output."""
    convolutional: bool
    """Whether one of the two linear maps is a convolution."""
    reason: str


def block_structure(block: nn.Module) -> BlockStructure:
    """Follow the data through the block with torch.fx; 'unknown' where its forward cannot be traced."""
    if not isinstance(block, nn.Module):
        raise WrongTypeError(f"block is {type(block).__name__}; expected a module.")
    try:
        graph = _Tracer().trace(block)
    except Exception as error:  # tracing runs the user's code, which may raise anything
        why = f"torch.fx cannot trace {type(block).__name__} ({type(error).__name__})"
        return BlockStructure("unknown", "unknown", False, why)
    modules = dict(block.named_modules())
    nodes: dict[fx.Node, _Reached] = {}
    for node in graph.nodes:
        nodes[node] = _reach(node, _kind(node, modules, nodes), nodes)
    output = next(nodes[node] for node in graph.nodes if node.op == "output")
    two_layer: Truth = "no"
    why = "no linear - activation - linear on any path"
    if output.opaque:
        two_layer, why = "unknown", f"{output.opaque} cannot be looked into"
    elif output.level == _SECOND_LINEAR:
        two_layer = "yes"
        why = "linear - activation - linear" + (", through convolutions" if output.convolutional else "")
    elif output.level == _ACTIVATED:
        why = "an activation after its last linear map, and so no linear - activation - linear to its output"
    return BlockStructure(two_layer, output.identity, output.convolutional, why)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        unchanged = _MODULES["same"] + _MODULES["harmless"]
        return isinstance(m, unchanged) or super().is_leaf_module(m, module_qualified_name)


_LINEAR, _ACTIVATED, _SECOND_LINEAR = 1, 2, 3


@dataclass(frozen=True)
class _Reached:
    """The maps that the data has passed on its way to a node."""

    depends: bool = False
    level: int = 0
    convolutional: bool = False
    identity: Truth = "no"
    opaque: str = ""


def _reach(node: fx.Node, kind: str, nodes: dict[fx.Node, _Reached]) -> _Reached:
    if node.op == "placeholder":
        return _Reached(depends=True, identity="yes")
    if node.target is getattr and node.args[1] == "shape":  # no data
        return _Reached()
    before = [nodes[n] for n in node.all_input_nodes if nodes[n].depends]
    if not before:
        return _Reached()
    furthest = max(before, key=lambda r: (r.level, r.convolutional))
    opaque = next((r.opaque for r in before if r.opaque), "")
    level, convolutional = furthest.level, furthest.convolutional
    identity: Truth = "no"
    if kind in ("dense", "convolution"):
        level = _SECOND_LINEAR if level >= _ACTIVATED else _LINEAR
        convolutional = convolutional or kind == "convolution"
    elif kind == "activation":
        level = _ACTIVATED if level >= _LINEAR else 0
    elif kind == "opaque":
        opaque, identity = opaque or str(node.target), "unknown"
    elif kind == "add":
        truths = {r.identity for r in before}
        identity = next(truth for truth in ("yes", "unknown", "no") if truth in truths)
    elif kind == "sub":
        first = nodes[node.all_input_nodes[0]]
        identity = first.identity if first.depends else "no"
    elif kind == "same":
        identity = before[0].identity
    return _Reached(True, level, convolutional, identity, opaque)


def _kind(node: fx.Node, modules: dict[str, nn.Module], nodes: dict[fx.Node, _Reached]) -> str:
    if node.op in ("placeholder", "get_attr"):
        return "harmless"
    if node.op == "output":
        return "same"
    if node.op == "call_module":
        module = modules[str(node.target)]
        return next((kind for kind, classes in _MODULES.items() if isinstance(module, classes)), "opaque")
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", "")).lower()
    name = name.strip("_").removeprefix("i") if name in ("iadd", "isub", "imul") else name.rstrip("_")
    products_of_data = sum(nodes[n].depends for n in node.all_input_nodes) > 1
    if name in _MATRIX_NAMES:
        return "opaque" if products_of_data else "dense"
    if name in _CONVOLUTION_NAMES:
        return "convolution"
    if name in _ACTIVATION_NAMES:
        return "activation"
    if name in ("add", "sub"):
        return name
    if name in ("dropout", "clone", "detach"):
        return "same"
    return "harmless" if name in _HARMLESS_NAMES and not products_of_data else "opaque"
