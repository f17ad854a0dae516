"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

# ruff: noqa: F401 (what it imports is there for the others)
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm, _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd, _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd as DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd as AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd as AdaptiveMaxPoolNd,
    _AvgPoolNd as AvgPoolNd,
    _MaxPoolNd as MaxPoolNd,
)
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import remove_parametrizations
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_map_only, tree_unflatten

Layer_ = TypeVar("Layer_", bound=nn.Module)


def version(x: Tensor) -> int:
    """The number of times that a tensor was written into; 0 where torch does not count them."""
    return 0 if torch.compiler.is_compiling() or x.is_inference() else x._version


def is_view(x: Tensor) -> bool:
    """Whether a tensor is a view of another one, whose memory it shares, as autograd sees it."""
    return x._is_view()


def saved_tensors_are_hooked() -> bool:
    """Whether hooks, as those of a checkpoint, take what a graph saves for its backward pass."""
    return cast(Any, torch._C)._autograd._top_saved_tensors_default_hooks(True) is not None


def unhooked() -> AbstractContextManager[object]:
    """A context for gradients that are taken within a forward pass: what graphs save there no hook around it sees.

    A checkpoint would count it, and run the pass again to give it back.
    """
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, such as grad or vmap, is at work."""
    return cast(Any, torch._C)._functorch.peek_interpreter_stack() is not None


def is_batched(gradient: Tensor) -> bool:
    """Whether a gradient stands for several, as of `torch.autograd.grad(..., is_grads_batched=True)`."""
    functorch = cast(Any, torch._C)._functorch
    return functorch.is_legacy_batchedtensor(gradient) or functorch.is_batchedtensor(gradient)


@contextmanager
def gradient_hooks_off(tensors: Iterable[Tensor]) -> Iterator[None]:
    """A context in which hooks on the gradients of tensors are not called: for parts of a gradient that is a sum."""
    tables = [(hooks, dict(hooks)) for x in tensors if (hooks := x._backward_hooks)]
    for hooks, _ in tables:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in tables:
            hooks.update(before)


def own_parameters(module: nn.Module) -> dict[str, Any]:
    """The parameters that a module holds itself, as the dictionary that torch reads and writes."""
    return module._parameters


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children of a module by name, the dictionary that it keeps them in."""
    return module._modules


def base(x: Tensor) -> Tensor:
    """The tensor that another is a view of; a tensor that is no view itself."""
    return x if x._base is None else x._base


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """The buffers of a module itself by name, the dictionary that it keeps them in."""
    return module._buffers


def children_and_hooks(module: nn.Module) -> tuple[dict[Any, Any], ...]:
    """The dictionaries in which a module keeps its children, its forward pre-hooks and its forward hooks."""
    return module._modules, module._forward_pre_hooks, module._forward_hooks


def without_torch_function() -> AbstractContextManager[None]:
    """A context within which operations on tensors of a subclass are not handed to its `__torch_function__`."""
    return torch._C.DisableTorchFunction()


def storage_id(storage: torch.UntypedStorage) -> int:
    """The address of a storage: two tensors of one storage have the same."""
    return storage._cdata


def int8_product(x: Tensor, y: Tensor) -> Tensor:
    """The product (n, m) int32 of int8 matrices (n, k) and (k, m)."""
    return torch._int_mm(x, y)  # pyright: ignore[reportPrivateImportUsage]


def forward_hooks(module: nn.Module) -> Iterable[Any]:
    """The forward hooks of a module, in the order in which they run."""
    return module._forward_hooks.values()


def convolve(layer: ConvNd, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a layer, its padding mode included, with another weight and without the bias."""
    return layer._conv_forward(x, weight, None)  # pyright: ignore


def reopen_forward(module: nn.Module) -> None:
    """Give a module a `forward` attribute of its own, the one of its class.

    torch.compile does not look at hooks, and would run what it compiled without them. It does look for a `forward` of a
    module's own, so that this makes it compile the module anew.
    """
    module.__dict__.setdefault("forward", module.forward)


def close_forward(module: nn.Module) -> None:
    """Take away the `forward` that `reopen_forward` gave a module."""
    if "forward" in module.__dict__ and replaced_forward(module) is None:
        del module.__dict__["forward"]


def replaced_forward(module: nn.Module) -> Callable[..., Any] | None:
    """The function that was put into a module in the place of its class's `forward`; None where it has that one."""
    forward = module.__dict__.get("forward")
    return None if getattr(forward, "__func__", None) is type(module).forward else forward


def adopt_hooks(module: nn.Module, predecessor: nn.Module) -> None:
    """Let a module that takes another one's place have its hooks on calls and gradients, in the same dictionaries.

    So a handle takes a hook off both, and the other one has them still when it comes back.
    """
    for name, hooks in predecessor.__dict__.items():
        if name.startswith(("_forward_", "_backward_", "_is_full_backward_hook")):
            module.__dict__[name] = hooks
    if "forward" in predecessor.__dict__ and replaced_forward(predecessor) is None:
        reopen_forward(module)


def same_under(kind: type[Layer_], layer: nn.Module) -> Layer_:
    """A layer of a class that derives from the layer's own, which shares its parameters, buffers and hooks."""
    shared = kind.__new__(kind)
    shared.__dict__.update(layer.__dict__)
    return shared


def make_picklable(layer: Layer_) -> Layer_:
    """Let a layer with parametrizations be pickled, and so a model that has it saved whole, which torch refuses."""
    kind: Any = type(layer)
    kind.__reduce_ex__ = _reduce_parametrized
    return layer


def _reduce_parametrized(layer: nn.Module, protocol: int) -> tuple[Any, ...]:
    original_class = type(layer).__mro__[1]  # torch made a class of this layer alone, which no module has by name
    names = tuple(cast(nn.ModuleDict, layer.parametrizations))
    hooks = layer._load_state_dict_pre_hooks.items()  # one of weight_norm's, for files of torch 1, is no name's
    loading = OrderedDict((key, hook) for key, hook in hooks if "<locals>" not in _qualified_name(hook))
    return _parametrized_anew, (original_class, names), layer.__dict__ | {"_load_state_dict_pre_hooks": loading}


def _qualified_name(hook: Any) -> str:
    return getattr(getattr(hook, "hook", hook), "__qualname__", "")


def _parametrized_anew(original_class: type[nn.Module], names: Sequence[str]) -> nn.Module:
    layer = original_class.__new__(original_class)
    parametrize._inject_new_class(layer)
    for name in names:
        parametrize._inject_property(layer, name)
    return make_picklable(layer)


def remove_weight_parametrization(layer: nn.Module, keep_computed: bool) -> None:
    """Take the parametrization of a layer's weight off, as `torch.nn.utils.parametrize` does, without harm to copies.

    Copies share the class that torch made, whose property `weight` torch takes away: the layer first gets its own.
    """
    own = type(layer)
    layer.__class__ = cast(type[nn.Module], type(own.__name__, own.__bases__, dict(own.__dict__)))
    remove_parametrizations(layer, "weight", leave_parametrized=keep_computed)


def compile_graph(graph: torch.fx.GraphModule, inputs: Sequence[Any], recompute_far: bool) -> Callable[..., Any]:
    """Compile a graph as torch.compile does; with `recompute_far` backward may recompute what it deems far away."""
    from torch._functorch import config
    from torch._inductor.compile_fx import compile_fx

    with config.patch(ban_recompute_used_far_apart=config.ban_recompute_used_far_apart and not recompute_far):
        return cast(Callable[..., Any], compile_fx(graph, list(inputs)))


@dataclass(frozen=True)
class ModuleSnapshot:
    """A module as it was before `fully_shard` (FSDP2) gave it another class, parameters and hooks, for good."""

    module: nn.Module
    kind: type[nn.Module]
    names: frozenset[str]
    parameters: dict[str, Any]
    dictionaries: dict[str, dict[Any, Any]]
    """The parameters and hooks of the module, by the name of its attribute."""

    @classmethod
    def of(cls, module: nn.Module) -> "ModuleSnapshot":
        copies = {k: dict(v) for k, v in vars(module).items() if k == "_parameters" or "hooks" in k}
        return cls(module, type(module), frozenset(vars(module)), copies["_parameters"], copies)

    def restore(self) -> None:
        from torch.distributed._composable_state import _module_state_mapping

        self.module.__class__ = self.kind
        for name in vars(self.module).keys() - self.names:
            if "fsdp" in name or "contract" in name or "composable" in name:
                del self.module.__dict__[name]
        for name, before in self.dictionaries.items():  # in place: a hook's handle knows the very dictionary
            vars(self.module)[name].clear()
            vars(self.module)[name].update(before)
        _module_state_mapping.pop(self.module, None)  # else it could not be sharded again


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given; a module that was not compiled itself."""
    return getattr(model, "_orig_mod", model)


def uncompiled_call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, which torch.compile does not look into where it compiles the caller.

    What is compiled by itself within it stays so. The compiler's own module is not loaded for this.
    """
    if "torch._dynamo" in sys.modules:
        return cast(Any, torch.compiler.disable)(function)(*arguments)
    return function(*arguments)


@contextmanager
def seems_compiled() -> Iterator[None]:
    """A context where `torch.compiler.is_compiling()` is true: libraries leave out branches on numbers of a batch."""
    before = torch.compiler._is_compiling_flag
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before
