from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.training import NonFiniteLossError, default_recipe
from minimand.training.events import EpochDone, Event, Finished, Started, StepDone
from minimand.training.losses import as_loss
from minimand.training.recipe import as_config, from_config


def _rings(n: int = 200) -> mm.Data:
    return mm.load_data("nested_rings", samples=n)


def _mlp(algorithm: Any = "heavy_ball", seed: int = 0, **settings: Any):
    torch.manual_seed(seed)
    return mm.create_model("mlp", algorithm, num_classes=2, in_channels=2, width=8, depth=3, hidden=8, **settings)


def _weights(model: nn.Module) -> list[torch.Tensor]:
    return [v.clone() for v in model.state_dict().values()]


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_model_learns_the_rings() -> None:
    model = _mlp()
    result = mm.fit(model, _rings(1000), recipe=mm.Recipe(epochs=20, batch_size=50, optimizer=mm.AdamW(lr=1e-2)))
    assert result.model is model
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.97
    assert result.history[-1]["test_accuracy"] == result.test_accuracy
    confusion = torch.tensor(result.evaluation.confusion)
    assert float(confusion.diagonal().sum() / confusion.sum()) == pytest.approx(result.test_accuracy)


def test_a_regression_is_judged_by_its_squared_error() -> None:
    torch.manual_seed(0)
    model = mm.create_model("mlp", num_classes=1, in_channels=1, width=16, depth=3, hidden=16)
    result = mm.fit(model, "telgarsky(folds=1)", recipe=mm.Recipe(100, 64, mm.AdamW(lr=1e-2, weight_decay=0)))
    assert result.test_accuracy is None
    assert result.test_loss < 1e-3
    outputs = model(torch.tensor([[0.25], [0.5]])).flatten().tolist()
    assert outputs == pytest.approx([0.5, 1.0], abs=0.1)


def test_a_seed_makes_training_repeatable() -> None:
    recipe = mm.Recipe(epochs=2, batch_size=20)
    trained = []
    for seed in (3, 3, 4):
        model = _mlp()
        mm.fit(model, _rings(), recipe=recipe, seed=seed)
        trained.append(_weights(model))
    assert _same(trained[0], trained[1])
    assert not _same(trained[0], trained[2])


def test_training_is_plain_sgd() -> None:
    """One epoch against the same updates written by hand."""
    data = _rings(60)
    recipe = mm.Recipe(epochs=1, batch_size=20, optimizer=mm.SGD(lr=0.05, weight_decay=0.01), schedule=mm.Cosine())
    model, by_hand = _mlp(), _mlp()
    mm.fit(model, data, recipe=recipe)
    decayed = [p for p in by_hand.parameters() if p.ndim >= 2]
    others = [p for p in by_hand.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    for i, (x, y) in enumerate(data.train.batches(20, seed=0)):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + torch.cos(torch.tensor(torch.pi * i / 3)).item()) / 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand(x), y).backward()
        optimizer.step()
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_coefficients_stay_within_their_bounds_and_are_not_decayed() -> None:
    model = _mlp(mm.algorithms.HeavyBall(momentum=mm.Learnable(0.0, low=0.0, high=0.05)))
    seen: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            seen.extend(model.stages[0].coefficients["momentum"].detach().tolist())

    mm.fit(model, _rings(), recipe=mm.Recipe(epochs=3, batch_size=20, optimizer=mm.SGD(lr=0.5)), callbacks=[watch])
    assert min(seen) >= 0
    assert max(seen) <= 0.05 + 1e-8
    assert max(seen) > 0  # left its bound
    optimizer = mm.SGD(weight_decay=0.1).build(model)
    undecayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    assert id(model.stages[0].coefficients["momentum"]) in undecayed


def test_callbacks_are_told_everything_in_order() -> None:
    told: list[Event] = []
    mm.fit(_mlp(), _rings(40), recipe=mm.Recipe(epochs=2, batch_size=20), callbacks=[told.append])
    kinds = [type(event) for event in told]
    assert kinds == [Started, StepDone, StepDone, EpochDone, StepDone, StepDone, EpochDone, Finished]
    assert [e.step for e in told if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert isinstance(told[0], Started)
    assert (told[0].steps, told[0].done) == (4, 0)


def test_the_average_of_the_weights_is_what_is_evaluated_and_returned() -> None:
    decay, weights = 0.5, []
    model = _mlp()

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            weights.append(next(model.parameters()).detach().clone())

    mm.fit(model, _rings(60), recipe=mm.Recipe(epochs=1, batch_size=20, ema=decay), callbacks=[watch])
    average = weights[0]
    for w in weights[1:]:
        average = decay * average + (1 - decay) * w
    torch.testing.assert_close(next(model.parameters()).detach(), average)


def test_clipping_bounds_the_update() -> None:
    model = _mlp()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    recipe = mm.Recipe(1, 200, mm.SGD(lr=1.0, momentum=0.0, weight_decay=0.0), mm.Step(at=()), clip=1e-3)
    mm.fit(model, _rings(), recipe=recipe)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_bf16_trains_the_same_network() -> None:
    recipe = mm.Recipe(epochs=2, batch_size=20, optimizer=mm.SGD(lr=0.02))
    losses = []
    for one in (recipe, replace(recipe, bf16=True)):
        losses.append(mm.fit(_mlp(), _rings(), recipe=one).test_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_tensors_sets_and_loaders_train_a_module_of_one_s_own() -> None:
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()
    for part in ((x, y), TensorDataset(x, y), DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)):
        torch.manual_seed(0)
        recipe = mm.Recipe(epochs=15, batch_size=16, optimizer=mm.AdamW(lr=0.05))
        result = mm.fit(nn.Linear(4, 2), (part, part), recipe=recipe)
        assert result.test_accuracy is not None
        assert result.test_accuracy > 0.9


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", nn.functional.multi_margin_loss])
def test_losses(loss: Any) -> None:
    result = mm.fit(_mlp(), _rings(400), loss=loss, recipe=mm.Recipe(10, 20, mm.AdamW(lr=1e-2)))
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "cross_entropi"}, ValueError, "Did you mean 'cross_entropy'"),
        ({"data": "telgarsky", "loss": "cross_entropy"}, ValueError, "telgarsky is a regression; expected 'mse'"),
        ({"data": 3}, TypeError, "data is int; expected a name"),
    ],
)
def test_bad_input(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mm.fit(_mlp(), **{"data": _rings(40), **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Recipe(epochs=0), r"Recipe.epochs is 0; expected 1 to inf"),
        (lambda: mm.Recipe(label_smoothing=1.5), "Recipe.label_smoothing is 1.5; expected 0 to 1"),
        (lambda: mm.Recipe(optimizer=mm.SGD(lr=0)), "Recipe.optimizer.lr is 0; expected a positive number"),
    ],
)
def test_bad_recipes(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("schedule", [mm.Cosine(), mm.Cosine(warmup=0.2), mm.OneCycle(), mm.Step((0.3, 0.6), 0.5)])
def test_schedules(schedule: Any) -> None:
    values = [schedule.factor(i / 1000) for i in range(1000)]
    assert max(values) == pytest.approx(1, abs=6e-3)
    assert min(values) >= 0
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if isinstance(schedule, mm.Step):
        assert (values[299], values[301], values[999]) == (1, 0.5, 0.25)
    else:
        assert values[-1] < 0.01


def test_recipes_read_back_from_their_configuration() -> None:
    recipes = [
        mm.Recipe(),
        mm.Recipe(3, 7, mm.AdamW(betas=(0.8, 0.9)), mm.Step(at=(0.1,)), ema=0.9, bf16=True),
        default_recipe(mm.load_data("digits"), torch.device("cpu")),
        default_recipe(_rings(), torch.device("cpu")),
    ]
    for recipe in recipes:
        assert from_config(as_config(recipe)) == recipe
    with pytest.raises(ValueError, match="Did you mean 'AdamW'"):
        from_config({"Recipe": {"optimizer": {"AdamV": {}}}})


class _Breaks(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {"nan": torch.log(-x.abs()), "inf": x / 0}[self.kind]


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_the_layer(kind: str) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), _Breaks(kind), nn.Linear(4, 2))
    with pytest.raises(NonFiniteLossError, match=r"at step 0. It began in the output of 2 \(_Breaks\)"):
        mm.fit(model, _rings(40), recipe=mm.Recipe(1, 20))


def test_a_parameter_that_an_update_broke_is_named() -> None:
    model = _mlp()

    def break_it(event: Event) -> None:
        if isinstance(event, StepDone):
            model.get_parameter("body.0.layers.1.block.2.bias").data[3] = torch.inf

    with pytest.raises(
        NonFiniteLossError, match=r"at step 1.*layers.1.block.2.bias, which an earlier update made infin"
    ):
        mm.fit(model, _rings(400), recipe=mm.Recipe(3, 20), callbacks=[break_it])


def test_an_input_that_is_not_finite_is_named() -> None:
    x = torch.randn(20, 2)
    x[3, 1] = torch.nan
    part = (x, torch.arange(20) % 2)
    with pytest.raises(NonFiniteLossError, match="in the batch itself"):
        mm.fit(_mlp(), (part, part), recipe=mm.Recipe(1, 20))


def test_the_search_for_the_layer_leaves_the_model_as_it_was() -> None:
    from minimand.training.nonfinite import origin

    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 2)).train()
    x = torch.randn(8, 2)
    before, random = _weights(model), torch.get_rng_state()
    assert origin(model, x) == "in the loss: the outputs are finite"
    assert _same(before, _weights(model))
    assert torch.equal(random, torch.get_rng_state())
    assert not model[2]._forward_hooks


def test_evaluation_is_exact_and_leaves_the_mode() -> None:
    data = _rings(700)  # more than one batch
    model = _mlp().train()
    loss = as_loss(None, data)
    found = mm.evaluate(model, data, data.test, loss)
    x, y = next(data.test.batches(700))
    with torch.no_grad():
        outputs = model.eval()(x)
    assert found.loss == pytest.approx(float(loss(outputs, y)), rel=1e-5)
    assert found.accuracy == pytest.approx(float((outputs.argmax(1) == y).float().mean()))
    model.train()
    mm.evaluate(model, data, data.test, loss)
    assert model.training
