"""Any model as stem, layers and head: where it is cut, and the proof that its parts are the model."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import forward_hooks, tree_flatten, tree_map
from ..arguments import as_arguments
from ..kinds import POOLS, starts_layer
from ..protocol import SplitNetwork
from ..skeletons import WiringHook
from ..undisturbed import undisturbed
from .pieces import Piece, Program, Stem, live, main, programs
from .recording import Call, Recording, Unrecordable, merged, record
from .repeated import blocks

_HELP = (
    "Expected repeated blocks called one after another by torch functions; else write a network with stem, layers, "
    "head and read(j, state) of your own (mm.Network)."
)
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 5e-2}


def cut(model: nn.Module, example: Any) -> SplitNetwork:
    """A model with repeated blocks as stem, layers and head, by an example; raises MinimandError where it cannot be."""
    places = _places(model)
    inputs = as_arguments(example)
    tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
    if not tensors or tensors[0].ndim == 0 or len(tensors[0]) == 0:
        raise MinimandError(
            f"example is {type(example).__name__}; expected some samples: a tensor, a tuple, a mapping."
        )
    name = type(model).__name__
    try:
        with undisturbed(model), _without_memory(model), torch.enable_grad(), _full_precision(tensors[0].device):
            network = _parts(model, places, inputs, len(tensors[0]))
            _check(model, network, _rows(inputs, len(tensors[0]), 4))
    except Unrecordable as error:
        raise MinimandError(f"{name} cannot be cut into stem, layers and head: {error}. {_HELP}") from error
    except (RuntimeError, TypeError) as error:
        if isinstance(error, MinimandError | torch.OutOfMemoryError):
            raise
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        raise MinimandError(f"{name} fails on an example of the shape {shapes} ({error}).") from error
    return network


@dataclass(frozen=True)
class _Places:
    """The modules by whose calls a model is cut: after each of its blocks, or before each layer of a flat chain."""

    modules: frozenset[nn.Module]
    are_blocks: bool


def _places(model: nn.Module) -> _Places:
    repeated = blocks(model)
    wired = {name for name, block in repeated.items() if _is_wired(block)}
    free = frozenset(block for name, block in repeated.items() if name not in wired)
    if free:
        return _Places(free, True)
    check_unwired(model, repeated.values())
    chains = [m for m in model.modules() if type(m).forward is nn.Sequential.forward]
    starters = [child for chain in chains for child in unfolded(chain) if starts_layer(child)]
    starters = [m for m in starters if type(m).forward is not nn.Sequential.forward]
    if len(starters) < 2:
        kinds = ", ".join(dict.fromkeys(type(child).__name__ for child in model.children()))
        raise MinimandError(
            f"{type(model).__name__} has no repeated blocks: expected several modules of one class, an nn.Sequential "
            f"of layers, or a network with stem, layers, head and read(j, state). Its children are {kinds or 'none'}."
        )
    return _Places(frozenset(starters), False)


def check_unwired(model: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Raise MinimandError if an algorithm is wired around some of the blocks between which a model would be cut."""
    if any(map(_is_wired, blocks)):
        raise MinimandError(
            f"{type(model).__name__} is rewired: its algorithm carries a state of its own from block to block, which "
            "cannot be cut. Undo it first, mm.changes(model).undo(), or take a network of mm.create_model."
        )


def unfolded(chain: nn.Module) -> list[nn.Module]:
    """The children of a chain; in the place of a chain inside that has repeated blocks, its children."""
    children: list[nn.Module] = []
    for child in chain.children():
        inside = blocks(child).values() if type(child).forward is nn.Sequential.forward else ()
        children += unfolded(child) if inside and not any(map(_is_wired, inside)) else [child]
    return children


def _is_wired(block: nn.Module) -> bool:
    return any(isinstance(hook, WiringHook) for hook in forward_hooks(block))


def _parts(model: nn.Module, places: _Places, inputs: tuple[Any, Any], size: int) -> SplitNetwork:
    opened = {m for m in model.modules() if any(part in places.modules for part in m.modules() if part is not m)}
    closed = [m for m in model.modules() if m not in opened and m is not model]
    of_mode: dict[bool, list[Program]] = {}
    channels_last: list[bool] = []
    for training in (False, True):
        model.train(training)
        (args, kwargs), (more, more_kwargs) = (_rows(inputs, size, n) for n in (2, 3))
        one, other = record(model, closed, args, kwargs, 2), record(model, closed, more, more_kwargs, 3)
        whole = merged(one, other)
        cuts = _cuts(whole, places)
        of_mode[training] = programs(one, other, whole, cuts)
        mains = [main(whole, position, one) for position in cuts[1:]]
        channels_last = [n is not None and _is_channels_last(one.shapes[n], places.modules) for n in mains]
    states = [[[(c.axis, c.rows) for c in p.entry or ()] for p in parts] for parts in of_mode.values()]
    if states[0] != states[1]:
        raise Unrecordable("what its blocks hand on differs between training and evaluation")
    stem, *layers, head = ({False: a, True: b} for a, b in zip(*of_mode.values(), strict=True))
    shapes = [tuple(x.shape[1:]) for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
    first = _chain(stem) or Stem(model, stem, shapes)
    return SplitNetwork(model, first, [_piece(model, p) for p in layers], _piece(model, head), channels_last)


def _piece(model: nn.Module, of_mode: dict[bool, Program]) -> nn.Module:
    return _chain(of_mode) or Piece(model, of_mode)


def _chain(of_mode: dict[bool, Program]) -> nn.Sequential | None:
    """The nn.Sequential of the modules of a part that runs one after another, if that is all it does."""
    chains = [program.chain for program in of_mode.values()]
    same = [[type(m) if type(m) is nn.Flatten else m for m in chain or ()] for chain in chains]
    return None if chains[0] is None or chains[1] is None or same[0] != same[1] else nn.Sequential(*chains[0])


def _cuts(recording: Recording, places: _Places) -> list[int]:
    """The positions among the calls where stem, layers and head begin but for the first."""
    calls = recording.calls
    positions = [i for i, call in enumerate(calls) if call.is_module and call.target in places.modules]
    if len(positions) < 2:
        raise Unrecordable(f"of its repeated blocks {len(positions)} ran on the example")
    if not places.are_blocks:
        end = positions[-1]
        while end - 1 > positions[-2] and _pools(calls[end - 1]):
            end -= 1
        return [0, *positions[1:-1], end]
    with_parameters = [i for i, call in enumerate(calls) if call.has_parameters]
    before = max((i + 1 for i in with_parameters if i < positions[0]), default=0)
    cuts = [min(range(positions[0], before - 1, -1), key=lambda p: len(live(recording, p)))]
    for position in positions:
        following = min((i for i in with_parameters if i > position), default=None)
        if following is not None:  # else the last block is the head
            cuts.append(min(range(position + 1, following + 1), key=lambda p: len(live(recording, p))))
    return cuts


def _pools(call: Call) -> bool:
    name = getattr(call.target, "__name__", "")
    return isinstance(call.target, POOLS) or "pool" in name or name == "flatten"


def _is_channels_last(shape: Sequence[int], modules: frozenset[nn.Module]) -> bool:
    """Whether blocks that give this shape work on (N, H, W, C)."""
    if len(shape) != 4:
        return False
    parts = [part for module in modules for part in module.modules()]
    first = any(isinstance(m, nn.Conv2d) and shape[1] in (m.in_channels, m.out_channels) for m in parts)
    return not first and any(isinstance(m, nn.Linear) and shape[-1] == m.in_features for m in parts)


def _rows(inputs: Any, size: int, count: int) -> Any:
    """Inputs of another number of samples, in turn those that are there."""

    def leaf(x: Any) -> Any:
        is_batch = isinstance(x, Tensor) and x.ndim > 0 and len(x) == size
        return x[torch.arange(count, device=x.device) % size] if is_batch else x

    return tree_map(leaf, inputs)


def _check(model: nn.Module, network: SplitNetwork, inputs: tuple[Any, Any]) -> None:
    """Raise Unrecordable unless the parts give what the model gives, and the same gradients."""
    args, kwargs = inputs
    parameters = [p for p in model.parameters() if p.requires_grad]
    for training in (False, True):
        model.train(training)
        results: list[tuple[list[Tensor], list[Tensor | None]]] = []
        for is_cut in (False, True):
            with torch.random.fork_rng(), torch.set_grad_enabled(training):
                torch.manual_seed(0)
                if is_cut:
                    output: Any = args[0] if len(args) == 1 else kwargs or args
                    for part in (network.stem, *network.layers, network.head):
                        output = part(output)
                else:
                    output = model(*args, **kwargs)
            outputs = [x for x in tree_flatten(output)[0] if isinstance(x, Tensor) and x.is_floating_point()]
            results.append((outputs, _gradients(outputs, parameters) if training else []))
        (outputs, gradients), (cut_outputs, cut_gradients) = results
        where = "in training" if training else "in evaluation"
        if len(outputs) != len(cut_outputs) or not all(map(_close, outputs, cut_outputs)):
            raise Unrecordable(f"{where} its parts, run one after another, give something else")
        if not _close_together(gradients, cut_gradients):
            raise Unrecordable(f"{where} its parts, run one after another, have other gradients")


def _gradients(outputs: list[Tensor], parameters: list[nn.Parameter]) -> list[Tensor | None]:
    total = torch.zeros(())
    generator = torch.Generator().manual_seed(0)
    for x in outputs:
        weights = torch.randn(x.shape, generator=generator).to(x)
        total = total.to(x.device) + (weights * x).float().sum()
    if not (total.requires_grad and parameters):
        return [None] * len(parameters)
    return list(torch.autograd.grad(total, parameters, allow_unused=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    difference = (a - b).detach().abs().nan_to_num(0, 0, 0)
    return bool(difference.max() <= _TOLERANCES[a.dtype] * (1e-6 + a.detach().abs().nan_to_num(0, 0, 0).max()))


def _close_together(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> bool:
    """Whether the gradients of all parameters are the same, up to rounding of the largest."""
    if any((x is None) != (y is None) for x, y in zip(a, b, strict=True)):
        return False
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None and x.isfinite().all()]
    scale = max((float(x.abs().max()) for x, _ in pairs), default=0.0)
    return all(float((x - y).abs().max()) <= _TOLERANCES[x.dtype] * (1e-9 + scale) for x, y in pairs)


@contextmanager
def _without_memory(model: nn.Module) -> Iterator[None]:
    """A context in which models of transformers do not keep keys and values of former tokens, which are no tensors."""
    configs: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    keeping = {id(config): config for config in configs if getattr(config, "use_cache", None) is True}
    for config in keeping.values():
        config.use_cache = False
    try:
        yield
    finally:
        for config in keeping.values():
            config.use_cache = True


def _full_precision(device: torch.device) -> Any:
    return torch.autocast(device.type, enabled=False)
