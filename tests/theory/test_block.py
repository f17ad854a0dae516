import pytest
import torch
import torch.nn.functional as F
from torch import nn

import minimand as mm
from minimand.blocks.convolutional import Skip, post_activation, pre_activation
from minimand.blocks.dense import two_layer
from minimand.layers.stochastic_depth import DropPath
from minimand.theory.block import block_structure


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 4)

    def forward(self, x):
        return self.second(F.gelu(self.first(x)))


class _Backwards(_Functional):
    """The modules are registered in an order in which they are not run."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.first(x)))


class _Branching(_Functional):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, x):
        return x + self.attention(x, x, x)[0]


class _Unread(_Functional):
    def forward(self, x):
        super().forward(x)
        return 0.5 * x


class _Matrices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3, 4))

    def forward(self, x):
        return x - (x @ self.first).clamp(min=0) @ self.second


class _Gated(_Functional):
    def forward(self, x):
        return self.second(torch.tanh(self.first(x)) * self.first(x))


@pytest.mark.parametrize(
    ("block", "two_layers", "identity", "convolutional"),
    [
        (two_layer(4, 2), "yes", "no", False),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "no", "no", False),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "no", "no", False),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4)), "yes", "no", False),
        (nn.Linear(4, 4), "no", "no", False),
        (_Functional(), "yes", "no", False),
        (_Backwards(), "no", "no", False),
        (_Branching(), "unknown", "unknown", False),
        (_Attention(), "no", "yes", False),
        (pre_activation(4, 4), "yes", "no", True),
        (Skip(post_activation(4, 4), nn.Identity(), nn.ReLU()), "no", "no", True),
        (Skip(post_activation(4, 4), nn.Identity(), nn.Identity()), "yes", "yes", True),
        (nn.Sequential(two_layer(4, 2), nn.ReLU()), "no", "no", False),
        (_Unread(), "no", "no", False),
        (_Matrices(), "yes", "yes", False),
        (_Gated(), "unknown", "no", False),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)), "yes", "no", True),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 1, 8)), "unknown", "unknown", False),
        (Skip(two_layer(4, 2), nn.Linear(4, 4), nn.Identity()), "yes", "no", False),
        (Skip(nn.Sequential(two_layer(4, 2), DropPath(0.5)), nn.Identity(), nn.Identity()), "yes", "yes", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_the_walk_finds(block: nn.Module, two_layers: str, identity: str, convolutional: bool) -> None:
    structure = block_structure(block)
    assert (structure.two_layer, structure.identity, structure.convolutional) == (two_layers, identity, convolutional)
    assert structure.reason


def test_the_certificate_says_what_no_theorem_covers() -> None:
    certificate = mm.certify("heavy_ball", block=pre_activation(4, 4))
    assert [s.name for s in certificate.universal] == ["U6"]
    assert {s.fails for s in certificate.statements if s.name in ("U1", "U2")} == {
        "they need a map of the whole state; the block is convolutional"
    }
    assert not mm.certify("heavy_ball", block=nn.Linear(4, 4)).universal
    assert "cannot trace" in str(mm.certify("heavy_ball", block=_Branching()))


def test_the_operator_binding_wants_a_skip() -> None:
    plain = mm.certify("heavy_ball", binding="operator", block=two_layer(4, 2))
    assert "has to contain a skip" in plain.statements[0].fails
    skipping = Skip(two_layer(4, 2), nn.Identity(), nn.Identity())
    assert mm.certify("heavy_ball", binding="operator", block=skipping).universal


def test_the_walk_leaves_the_block_as_it_was() -> None:
    block = two_layer(4, 2).train()
    before = {k: v.clone() for k, v in block.state_dict().items()}
    block_structure(block)
    assert block.training
    assert all(torch.equal(before[k], v) for k, v in block.state_dict().items())
