"""The algorithms inside a model: stages that run one, and runs of blocks that one is wired around."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn

from .._support.torch.internals import forward_hooks
from ..algorithms import Algorithm
from ..theory.kernel import Binding
from .memory.choice import Memory
from .unrolled import Unrolled


class Wiring(Protocol):
    """An algorithm that runs between the blocks of a model by hooks on them; its methods are those of `Unrolled`."""

    algorithm: Algorithm
    binding: ClassVar[Binding]
    memory: Memory
    exact: bool | None

    def learned(self) -> Algorithm: ...

    def project(self) -> None: ...


class WiringHook:
    """A forward hook that makes a block the k-th step of a wiring; `skeletons` finds it on the block."""

    def __init__(self, wiring: Wiring, k: int) -> None:
        self.wiring, self.k = wiring, k


@dataclass(frozen=True)
class Skeleton:
    """An algorithm inside a model, with the blocks that stand in the place of its gradients."""

    source: Unrolled | Wiring
    """The module that runs the algorithm, or the wiring that runs it by hooks."""
    names: tuple[str, ...]
    """The name of each block in the model; of a stage that asks several oracles, of the nn.ModuleDict of its blocks."""
    blocks: tuple[nn.Module, ...]
    """The block of each layer, in order."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm as it was given, learnable coefficients included."""
        return self.source.algorithm

    @property
    def learned(self) -> Algorithm:
        """The algorithm with the values that its learnable coefficients have now."""
        return self.source.learned()

    @property
    def depth(self) -> int:
        """The number of layers, each with its block."""
        return len(self.blocks)

    @property
    def binding(self) -> Binding:
        """How a block becomes a gradient; of a rewired model whole blocks are operators, branches residual."""
        return self.source.binding

    @property
    def is_wired(self) -> bool:
        """Whether hooks run the algorithm, as `mm.rewire` does, and no stage of `mm.unroll`."""
        return not isinstance(self.source, Unrolled)

    def project(self) -> None:
        """Bring the learnable coefficients back within their bounds; training does so after each step."""
        self.source.project()


def skeletons(model: nn.Module) -> list[Skeleton]:
    """The algorithms inside a model: its unrolled stages in their order, then the runs of blocks that hooks wire."""
    stages: list[Skeleton] = []
    wired: dict[Wiring, dict[int, tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Unrolled):
            names = tuple(f"{name}.layers.{k}.block".removeprefix(".") for k in range(len(module.layers)))
            stages.append(Skeleton(module, names, tuple(module.blocks)))
        for hook in forward_hooks(module):
            if isinstance(hook, WiringHook):
                wired.setdefault(hook.wiring, {})[hook.k] = name, module
    # In the order of steps, which is not that of modules: one module may answer several steps.
    in_order = [(wiring, zip(*[blocks[k] for k in sorted(blocks)], strict=True)) for wiring, blocks in wired.items()]
    return stages + [Skeleton(wiring, *blocks) for wiring, blocks in in_order]
