"""Blocks, around what has no derivative and nothing to learn."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from layerwise_models import MODELS, digits, new_model, recipe, same
from minimand.networks.as_network import as_network
from minimand.training.methods.local.partition import divided


class Rules(nn.Module):
    """Somebody's rule engine: numpy, and no derivative."""

    def forward(self, x: Tensor) -> Tensor:
        values = x.detach().cpu().numpy()
        return torch.from_numpy((values > values.mean()).astype(values.dtype)).to(x.device)


class Words(nn.Module):
    """A tokenizer: whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.detach().flatten(1).clamp(-2, 2) * 2 + 4).long()


class Embedded(nn.Module):
    """Vectors of words, side by side, and a linear map of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.map = nn.Embedding(9, 4), nn.Linear(4 * width, width)

    def forward(self, words: Tensor) -> Tensor:
        return self.map(self.table(words).flatten(1)).relu()


def _linear(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU())


def around(middle: nn.Module, inputs: int = 16, depth: int = 2) -> nn.Sequential:
    """Layers, something between them, layers, a head."""
    above = [_linear(inputs if i == 0 else 16, 16) for i in range(depth)]
    return nn.Sequential(nn.Flatten(), _linear(64, 16), middle, *above, nn.Linear(16, 10))


@pytest.mark.parametrize("cache", ["off", "memory", "disk"])
@pytest.mark.parametrize("middle", ["rules", "words"])
def test_what_has_no_derivative_stands_between_trained_layers(middle: str, cache: Any) -> None:
    """Every layer learns, below it and above; by backpropagation those below cannot."""
    model = around(Rules()) if middle == "rules" else around(nn.Sequential(Words(), Embedded(16)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = (digits(512), digits(128))
    result = mm.fit(model, data, method=mm.Layerwise(2, cache=cache), recipe=mm.Recipe(10, 32, mm.AdamW(1e-2)))
    weights = [key for key in before if key.endswith("weight")]
    assert all(not torch.equal(before[key], model.state_dict()[key]) for key in weights)
    assert cast(float, result.test_accuracy) > 0.4
    whole = around(Rules()) if middle == "rules" else around(nn.Sequential(Words(), Embedded(16)))
    torch.nn.functional.cross_entropy(whole(data[0][0]), data[0][1]).backward()
    assert all(p.grad is None for p in whole[1].parameters())


@pytest.mark.parametrize(
    "method", [mm.Layerwise(2), mm.Layerwise(global_weight=0.5), mm.Layerwise(2, cache="memory"), mm.Decoupled()]
)
def test_layers_may_work_in_place(method: Any) -> None:
    def chain(inplace: bool) -> nn.Module:
        torch.manual_seed(0)
        act = nn.ReLU(inplace=inplace)
        above = [nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(16, 16)) for _ in range(2)]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), act, nn.Linear(16, 16), *above, act, nn.Linear(16, 10))

    data = (digits(), digits(64))
    one, other = chain(False), chain(True)
    for model in (one, other):
        mm.fit(model, data, method=method, recipe=recipe())
    assert same(one, other)


def test_where_blocks_begin() -> None:
    x = digits(4)[0]

    def blocks(model: nn.Module, size: int) -> list[tuple[int, int]]:
        return [(b.start, b.stop) for b in divided(model, as_network(model, x), size, x)[0]]

    chain = around(Rules())  # [flatten, linear], [rules], [linear], [linear], head
    assert len(as_network(chain, x).layers) == 4
    assert len(as_network(chain).layers) == 3
    assert blocks(chain, 1) == [(0, 1), (1, 3), (3, 4)]
    assert blocks(chain, 2) == [(0, 1), (1, 4)]
    last = nn.Sequential(nn.Flatten(), _linear(64, 16), _linear(16, 16), Rules(), nn.Linear(16, 10))
    assert blocks(last, 2) == [(0, 2), (2, 3)]  # below the head there is nothing that learns but the head
    first = nn.Sequential(Rules(), nn.Flatten(), _linear(64, 16), _linear(16, 16), nn.Linear(16, 10))
    assert blocks(first, 1) == [(0, 1), (1, 2)]
    frozen = around(_linear(16, 16).requires_grad_(False))
    assert blocks(frozen, 1) == [(0, 2), (2, 3), (3, 4)]  # passes gradients on, so it joins the block before
    surrogate = around(mm.Opaque(Rules(), lambda x, y, g: x - g))
    assert blocks(surrogate, 1) == [(0, 1), (1, 2), (2, 3)]  # it says what would have been better


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_networks_without_such_layers_are_cut_evenly(name: str, size: int) -> None:
    model, x = new_model(name), digits(4)[0]
    network = as_network(model)
    parts, shapes = divided(model, network, size, x)
    count = len(network.layers)
    assert parts == [range(j, min(j + size, count)) for j in range(0, count, size)]
    assert len(shapes) == len(parts) - 1
    assert same(model, new_model(name))


def test_what_cannot_learn_or_be_read_is_named() -> None:
    class Hard(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).detach().sign()

    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Flatten(), nn.Linear(8, 10)
            self.layers = nn.ModuleList([nn.Linear(64, 8), nn.Linear(8, 8)])

        def read(self, j: int, state: Any) -> Tensor:
            raise KeyError("readout")

        def forward(self, x: Tensor) -> Tensor:
            return x

    data = (digits(64), digits(32))
    for model, message in (
        (around(Hard(16, 16)), r"layer 2 \(Hard\) has parameters to train, and no gradient comes from what it gives"),
        (Silent(), r"read\(0, state\) of Silent raises KeyError: 'readout'; expected a tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.fit(model, data, method=mm.Layerwise())


@pytest.mark.parametrize("allowed", ["asked", "free"])
def test_a_classifier_that_needs_too_much_is_told_before_it_is_made(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 bytes for each of its parameters, and nothing of it is allocated."""
    if allowed == "free":
        monkeypatch.setattr("minimand.training.methods.local.layerwise.free_memory", lambda device: 1e5)
    method = mm.Layerwise(2, auxiliary="mlp", memory=1e-4 if allowed == "asked" else None)
    message = r"'mlp' of block 1, on 24 x 8 x 8, has 28,906 parameters, which take 0.000462 GB .* are 0.0001 GB"
    with pytest.raises(ValueError, match=message) as error:
        mm.fit(wide(), (digits(64), digits(32)), method=method, recipe=recipe())
    assert (f"{allowed} for" if allowed == "asked" else allowed) in str(error.value)
    assert "a smaller auxiliary_width, 'mlp_sr' or 'linear'" in str(error.value)
    fitting = mm.Layerwise(2, memory=1e-2)
    assert mm.fit(wide(), (digits(64), digits(32)), method=fitting, recipe=recipe()).history


def wide() -> nn.Sequential:
    """A second block of which the MLP is large."""
    convolutions = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in ((1, 4), (4, 24), (24, 4))]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, 10))


def test_too_many_convolutions_without_padding_are_named() -> None:
    with pytest.raises(ValueError, match="half of a map of 8 x 8 is too small for them; expected at most 1"):
        mm.fit(wide(), (digits(64), digits(32)), method=mm.Layerwise(3, auxiliary="vgg"), recipe=recipe())


def _tokens(**options: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    x = torch.randint(5, (20, 6))
    model = mm.create_model("gpt_nano", num_tokens=5, context=6, width=8, heads=2, depth=2, **options)
    return model, ((x, x), (x, x))


def test_half_steps_that_ask_one_block_twice_are_not_divided() -> None:
    """Else a module would be trained by the losses of two, and in a process of its own asked as it was at the start."""
    model, (train, _) = _tokens(splitting="strang")
    assert divided(model, as_network(model), 1, train[0])[0] == [range(3), range(3, 6)]


def test_a_weight_that_is_trained_after_states_that_it_made_were_kept_is_refused() -> None:
    for start in (0, -1):
        model, data = _tokens(tied=True)
        with pytest.raises(
            ValueError, match="from 3 on train stem.module.table.tokens.weight too, .*cache='off', .*tied=False"
        ):
            mm.fit(model, data, method=mm.Layerwise(auxiliary="linear", cache="memory", start=start), progress=False)


def test_a_memory_that_layers_run_one_by_one_cannot_keep_is_told() -> None:
    model, (train, _) = _tokens(algorithm="heavy_ball(momentum=0.9)", memory="reversible")
    with pytest.warns(UserWarning, match="memory='reversible' of the model has no effect"):
        divided(model, as_network(model), 1, train[0])
