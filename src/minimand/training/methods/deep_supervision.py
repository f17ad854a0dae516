"""Deep supervision: end to end, with auxiliary heads that help hidden layers (Lee et al. 2015)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ...layers import PredictionSimilarity
from ...networks import Network, as_network
from ...networks.compiled import unwrapped
from ..loop.losses import Loss
from ..loop.problems import Plan, Problem
from ._registry import METHODS
from .local.heads import Heads, LocalAuxiliary, auxiliary_sources, check_processes
from .local.partition import divided_into, seen_by
from .method import Method, descend


@METHODS.register("deep_supervision")
@dataclass(frozen=True)
class DeepSupervision(Method):
    """Backpropagation end to end, of the network's own loss and those of auxiliary heads on its hidden layers.

    The loss is that of the network's head plus `weight` times the mean of the auxiliary heads', and its gradient goes
    through everything below them. The heads are those of `mm.Decoupled`, whose counterpart with gradients between the
    modules this is; they are dropped after training. The loss that is told is the network's own.
    """

    hidden_layers: int = 1
    auxiliary: LocalAuxiliary = "mlp_sr"
    auxiliary_width: int | None = None
    """The channels, or units, of an auxiliary head's hidden layers; by default those of what the head looks at."""
    block_size: int = 1
    """The number of layers below each head."""
    modules: int | None = None
    """The number of heads, the network's own included, with about as many layers below each; in the place of
    `block_size`."""
    weight: float = 1.0
    """The weight of the mean of the auxiliary heads' losses beside the network's own."""

    references: ClassVar[tuple[str, ...]] = ("lee2015deeply",)

    def __post_init__(self) -> None:
        for name in ("hidden_layers", "block_size", "auxiliary_width"):
            if getattr(self, name) is not None or name != "auxiliary_width":
                check_number(f"DeepSupervision.{name}", getattr(self, name), 1, math.inf, whole=True)
        check_number("DeepSupervision.weight", self.weight, 0, math.inf, below=True)
        if self.modules is not None:
            check_number("DeepSupervision.modules", self.modules, 2, math.inf, whole=True)
            if self.block_size != 1:
                raise MinimandError(
                    f"DeepSupervision.modules is {self.modules} and block_size {self.block_size}; expected one of them."
                )
        if sources := auxiliary_sources("DeepSupervision", self.auxiliary):
            object.__setattr__(self, "references", (*self.references, *sources))

    def check(self, world_size: int) -> None:
        check_processes("DeepSupervision", self.auxiliary, world_size)

    def plan(self, model: nn.Module, example: Callable[[], Any], num_outputs: int, epochs: int) -> Plan:
        """The one problem: the network with its auxiliary heads."""
        x = example()
        network = as_network(model, x)
        blocks, shapes = divided_into(model, network, self.block_size, self.modules, x)
        options = (num_outputs, self.hidden_layers, self.auxiliary_width)
        maker = Heads(self.auxiliary, model, network, blocks, shapes, x, *options)
        heads = nn.ModuleList(maker.make(j) for j in range(len(blocks) - 1))
        supervised = Supervised(model, network, [block.stop - 1 for block in blocks[:-1]], heads)
        return Plan([Problem(supervised, supervised, epochs)], supervised)

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        outputs, auxiliary, compared = model(x, True)
        value = loss(outputs, y)
        heads = cast(Supervised, unwrapped(model)).heads
        local = [loss(z, y) for z in auxiliary]
        for i, z in enumerate(compared):
            local[i] = cast(PredictionSimilarity, heads[i]).mixed(local[i], z, y, outputs.shape[1])
        _, outputs = descend(value + self.weight * torch.stack(local).mean(), outputs)
        is_finite = torch.stack([one.detach().isfinite() for one in (value, *local)]).all()
        return torch.where(is_finite, value.detach(), torch.nan), outputs


class Supervised(nn.Module):
    """A network with auxiliary heads above the layers `ends`: (N, ...) to the outputs of the network's own head."""

    def __init__(self, model: nn.Module, network: Network, ends: list[int], heads: nn.ModuleList) -> None:
        super().__init__()
        self.model, self.heads, self.ends = model, heads, ends
        self._network = (network,)  # so that nothing has two names

    def forward(self, x: Any, supervised: bool = False) -> Any:
        """The outputs; if supervised also those of each auxiliary head, and what "predsim" compares samples by."""
        if not supervised:
            return self.model(x)
        (network,) = self._network
        state: Any = network.stem(x)
        auxiliary: list[Tensor] = []
        compared: list[Tensor] = []
        for j, layer in enumerate(network.layers):
            state = layer(state)
            if j in self.ends:
                head = self.heads[len(auxiliary)]
                readout = seen_by(head, network, j, state)
                auxiliary.append(head(readout))
                if isinstance(head, PredictionSimilarity):
                    compared.append(head.similar(readout))
        return network.head(state), auxiliary, compared
