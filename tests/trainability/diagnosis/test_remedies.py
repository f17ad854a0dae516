"""What repairs a network is tried: on a copy before it is offered, and here in training at the rate it names."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from setup_a import chain, residual
from sweeps import thin

_RANKS = ("none", "note", "warning", "fatal")


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)


def _plain(activation: type[nn.Module], depth: int) -> nn.Module:
    parts = [part for _ in range(depth) for part in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*parts, nn.Linear(64, 10))


REPAIRED: dict[str, Callable[[], nn.Module]] = {
    "40 sigmoid layers": lambda: _plain(nn.Sigmoid, 40),
    "20 sigmoid layers": lambda: _plain(nn.Sigmoid, 20),
    "60 tanh layers": lambda: chain(nn.Tanh, 25 / 9, depth=60),
    "30 tanh layers": lambda: _plain(nn.Tanh, 30),
    "30 GELU layers": lambda: _plain(nn.GELU, 30),
    "15 ReLU layers": lambda: _plain(nn.ReLU, 15),
    "60 ReLU layers": lambda: chain(nn.ReLU, 2.0, depth=60),
    "50 layers of batch normalization": lambda: chain(nn.ReLU, 2.0, norm=nn.BatchNorm1d, depth=50),
    "30 residual blocks": lambda: residual(1.0, blocks=30),
}


@pytest.mark.parametrize("name", thin(REPAIRED, ["15 ReLU layers"]))
def test_a_remedy_trains_with_the_optimizer_and_rate_that_it_names(name: str, digits: Any) -> None:
    x, y = digits
    torch.manual_seed(0)
    model = REPAIRED[name]()
    remedy = mm.diagnose(model, x[:64]).verdict.remedy
    assert remedy is not None
    assert remedy.optimizer is not None
    assert f"mm.Adam({remedy.optimizer.lr:g})" in str(remedy)
    remedy.apply(model, x[:64])
    assert mm.diagnose(model, x[:64]).verdict.severity in ("none", "note")
    rate = remedy.optimizer.lr
    assert _accuracy(model, x, y, rate) > (0.65 if "40 sigmoid" in name else 0.85)
    if name == "40 sigmoid layers":
        assert _accuracy(model, x, y, 1e-3, 80) < 0.3, "another rate would do as well"


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, lr: float, steps: int = 250) -> float:
    model = copy.deepcopy(model)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr), torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize("size", [1e-4, 100.0])
@pytest.mark.parametrize("norm", [False, True])
def test_inputs_of_a_wrong_size_are_to_be_standardized_and_nothing_else(size: float, norm: bool) -> None:
    torch.manual_seed(0)
    parts = [nn.Flatten(), *([nn.BatchNorm1d(64)] if norm else []), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)]
    model, x = nn.Sequential(*parts, nn.ReLU(), nn.Linear(64, 10)), torch.randn(64, 64)
    assert mm.diagnose(model, x).verdict.code == "ok"
    verdict = mm.diagnose(model, x * size).verdict
    if norm:
        assert verdict.code == "ok", str(verdict)
        return
    assert (verdict.code, verdict.layer) == ("vanishing" if size < 1 else "exploding", "the input")
    assert verdict.severity == "warning"
    assert "standardize the inputs" in str(verdict.action)


def test_samples_that_are_the_same_are_not_to_be_standardized() -> None:
    x = torch.randn(1, 64).expand(32, -1)
    assert "these are the same" in str(mm.diagnose(chain(nn.ReLU, 2.0, depth=3), x).verdict.action)


class Words(nn.Module):
    """Embeddings that are nearly the same for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(50, 32), nn.Linear(32, 32), nn.Linear(32, 5)
        nn.init.normal_(self.embed.weight, 1.0, 0.01)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.embed(ids).mean(1))))


def test_token_ids_are_not_to_be_standardized() -> None:
    verdict = mm.diagnose(Words(), torch.randint(50, (16, 9))).verdict
    assert (verdict.code, verdict.layer) == ("collapsed", "the input")
    assert "standardize" not in str(verdict.action)
    assert "embedding" in str(verdict.action)


def test_what_no_call_repairs_is_not_offered_a_call() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model.register_forward_pre_hook(lambda _, args: (args[0] * float("inf"),))
    verdict = mm.diagnose(model, torch.randn(16, 8)).verdict
    assert verdict.code == "nonfinite"
    assert verdict.remedy is not None
    assert not verdict.remedy.calls


class Decoder(nn.Module):
    """Causal attention written in plain PyTorch, normalized after each branch."""

    def __init__(self, depth: int, skip: bool, width: int = 64, vocabulary: int = 31, length: int = 32) -> None:
        super().__init__()
        self.skip, self.embed, self.places = skip, nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.attends, self.projects, self.norms, self.grows, self.shrinks, self.norms2 = (
            nn.ModuleList(make() for _ in range(depth))
            for make in (
                lambda: nn.Linear(width, 3 * width),
                lambda: nn.Linear(width, width),
                lambda: nn.LayerNorm(width),
                lambda: nn.Linear(width, 4 * width),
                lambda: nn.Linear(4 * width, width),
                lambda: nn.LayerNorm(width),
            )
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.places(torch.arange(ids.shape[1]))
        layers = zip(self.attends, self.projects, self.norms, self.grows, self.shrinks, self.norms2, strict=True)
        for attend, project, norm, grow, shrink, norm2 in layers:
            q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in attend(x).chunk(3, -1))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = norm(project(mixed) + (x if self.skip else 0))
            x = norm2(shrink(F.gelu(grow(x))) + (x if self.skip else 0))
        return self.head(x)


@pytest.mark.parametrize("depth", [8, 12])
@pytest.mark.parametrize("skip", [False, True])
def test_attention_without_skips_makes_tokens_alike(depth: int, skip: bool) -> None:
    torch.manual_seed(0)
    verdict = mm.diagnose(Decoder(depth, skip), torch.randint(31, (16, 32))).verdict
    if skip:
        assert verdict.code == "ok", str(verdict)
        return
    assert verdict.code == "collapsed"
    assert "two tokens of a sample" in verdict.reason
    assert str(verdict.action).startswith("add skips around attention")


def test_branches_that_start_at_almost_nothing_are_meant() -> None:
    """What tells samples apart comes in by branches whose factors are 1e-5, as in CaiT."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 16))
            self.scale = nn.Parameter(torch.full((16,), 1e-5))
            self.stem, self.body, self.mlp, self.head = (nn.Linear(16, n) for n in (16, 16, 16, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            h = self.token.expand_as(x) + self.scale * self.body(torch.relu(x))
            h = h + self.scale * self.mlp(torch.relu(self.body(h)))
            return self.head(h)

    verdict = mm.diagnose(Slow(), torch.randn(32, 16)).verdict
    assert verdict.severity in ("note", "none"), str(verdict)
