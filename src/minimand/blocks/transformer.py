"""The branches of a transformer's layer, attention and a token-wise map, and the blocks made of them."""

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.stochastic_depth import DropPath
from .attention import Attention
from .registry import block


class Map(nn.Module):
    """A map of each token, contract(activation(expand(z))), or with a gate contract(activation(gate(z)) expand(z))."""

    def __init__(
        self, channels: int, hidden: int, activation: nn.Module, *, bias: bool = True, gated: bool = False
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, hidden, bias) if gated else None
        self.expand, self.activation = nn.Linear(channels, hidden, bias), activation
        self.contract = nn.Linear(hidden, channels, bias)

    def forward(self, z: Tensor) -> Tensor:
        if self.gate is None:
            return self.contract(self.activation(self.expand(z)))
        return self.contract(self.activation(self.gate(z)) * self.expand(z))


class TransformerBranch(nn.Module):
    """One branch of a layer, attention or a map, behind a normalization of its own: (N, tokens, C) to the same.

    Args:
        norm: normalizes what the branch reads.
        inner: an `Attention`, or a `Map`.
        drop_path: the probability with which training drops the branch for a sample.
        normalize: normalizes what the branch gives; by default nothing does.
        dropout: the probability with which training drops an entry of what `inner` gives.
    """

    def __init__(
        self,
        norm: nn.Module,
        inner: nn.Module,
        drop_path: float = 0.0,
        normalize: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm, self.inner, self.normalize = norm, inner, normalize
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.drop_path = DropPath(drop_path)

    def forward(self, z: Tensor) -> Tensor:
        answer = self.inner(self.norm(z))
        answer = answer if self.dropout is None else self.dropout(answer)
        return self.drop_path(answer if self.normalize is None else self.normalize(answer))


class WholeLayer(nn.Module):
    """Both branches of a layer, the map after attention, T(z) = A(z) + M(z + A(z)): (N, tokens, C) to the same."""

    def __init__(self, attend: nn.Module, map: nn.Module) -> None:
        super().__init__()
        self.attend, self.map = attend, map

    def forward(self, z: Tensor) -> Tensor:
        attended = self.attend(z)
        return attended + self.map(z + attended)


class ParallelLayer(nn.Module):
    """Both branches of a layer, asked at one point, T(z) = A(z) + M(z): (N, tokens, C) to the same."""

    def __init__(self, attend: nn.Module, map: nn.Module) -> None:
        super().__init__()
        self.attend, self.map = attend, map

    def forward(self, z: Tensor) -> Tensor:
        return self.attend(z) + self.map(z)


class HalfStep(nn.Module):
    """Half of a branch's answer, T(z) = A(z) / 2: (N, tokens, C) to the same."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, z: Tensor) -> Tensor:
        return 0.5 * self.branch(z)


class SecondHalfStep(nn.Module):
    """The other half of a step: it asks the branch of a `HalfStep` again, whose parameters stay that block's own."""

    def __init__(self, first: HalfStep) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule; copies and pickles still keep the two together.
        self.first = (first,)

    def forward(self, z: Tensor) -> Tensor:
        return self.first[0](z)


@block("transformer", (2, 3, 6), channels=6, heads=2)
def transformer(channels: int, heads: int = 1, drop_path: float = 0.0) -> WholeLayer:
    """The layer of a vision transformer (Dosovitskiy et al. 2021), T(z) = A(z) + M(z + A(z)), on (N, tokens, C).

    C is a multiple of `heads`; `drop_path` is the probability with which training drops A, and on its own M, for a
    sample.
    """
    return WholeLayer(*vision_branches(channels, heads, drop_path))


def vision_branches(channels: int, heads: int, drop_path: float) -> tuple[TransformerBranch, TransformerBranch]:
    """Attention and the map of a vision transformer's layer."""
    attend = TransformerBranch(nn.LayerNorm(channels, eps=1e-6), Attention(channels, heads), drop_path)
    map = Map(channels, 4 * channels, nn.GELU())
    return attend, TransformerBranch(nn.LayerNorm(channels, eps=1e-6), map, drop_path)


def norm_without_bias(width: int) -> Callable[[], nn.LayerNorm]:
    """What makes layer normalizations with a weight and no bias, as those of velocities and of branches' answers."""
    return lambda: nn.LayerNorm(width, bias=False)
