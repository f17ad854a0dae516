from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.recipes.recipe import as_config, default_recipe, from_config
from minimand.training.hooks.watching.nonfinite import NonFiniteLossError
from minimand.training.loop.events import EpochDone, Event, Finished, Started, StepDone
from minimand.training.loop.losses import as_loss


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
    assert result.evaluation is not None
    confusion = torch.tensor(result.evaluation.confusion)
    assert float(confusion.diagonal().sum() / confusion.sum()) == pytest.approx(result.test_accuracy)


def test_a_regression_is_judged_by_its_squared_error() -> None:
    torch.manual_seed(0)
    model = mm.create_model("mlp", num_classes=1, in_channels=1, width=16, depth=3, hidden=16)
    result = mm.fit(model, "telgarsky(folds=1)", recipe=mm.Recipe(100, 64, mm.AdamW(lr=1e-2, weight_decay=0)))
    assert result.test_accuracy is None
    assert result.test_loss is not None
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
    losses: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            losses.extend(model.stages[0].coefficients["momentum"].detach().tolist())

    mm.fit(model, _rings(), recipe=mm.Recipe(epochs=3, batch_size=20, optimizer=mm.SGD(lr=0.5)), callbacks=[watch])
    assert min(losses) >= 0
    assert max(losses) <= 0.05 + 1e-8
    assert max(losses) > 0  # left its bound
    optimizer = mm.SGD(weight_decay=0.1).build(model)
    undecayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    assert id(model.stages[0].coefficients["momentum"]) in undecayed


def test_callbacks_are_told_everything_in_order() -> None:
    events: list[Event] = []
    mm.fit(_mlp(), _rings(40), recipe=mm.Recipe(epochs=2, batch_size=20), callbacks=[events.append])
    kinds = [type(event) for event in events]
    assert kinds == [Started, StepDone, StepDone, EpochDone, StepDone, StepDone, EpochDone, Finished]
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert isinstance(events[0], Started)
    assert (events[0].steps, events[0].done) == (4, 0)


def test_the_average_of_the_weights_is_what_is_evaluated_and_returned() -> None:
    weights: list[torch.Tensor] = []
    model = _mlp()

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            weights.append(next(model.parameters()).detach().clone())

    mm.fit(model, _rings(60), recipe=mm.Recipe(epochs=6, batch_size=20, ema=0.5), callbacks=[watch])
    average = weights[0]
    for n, w in enumerate(weights[1:], 1):
        decay = min(0.5, (1 + n) / (10 + n))  # short averages first
        average = decay * average + (1 - decay) * w
    torch.testing.assert_close(next(model.parameters()).detach(), average)


def test_clipping_bounds_the_update() -> None:
    model = _mlp()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    recipe = mm.Recipe(1, 200, mm.SGD(lr=1.0, momentum=0.0, weight_decay=0.0), mm.StepDecay(at=()), clip=1e-3)
    mm.fit(model, _rings(), recipe=recipe)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_bf16_trains_the_same_network() -> None:
    recipe = mm.Recipe(epochs=2, batch_size=20, optimizer=mm.SGD(lr=0.02))
    losses = []
    for one in (recipe, replace(recipe, precision="bf16")):
        losses.append(mm.fit(_mlp(), _rings(), recipe=one).test_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


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
        ({"loss": 3}, TypeError, "loss is 3; expected 'cross_entropy', 'mse' or a function"),
        ({"model": "mlp"}, TypeError, r"model is 'mlp'; expected a module, mm.create_model\('mlp', ...\)"),
        ({"model": nn.ReLU()}, ValueError, "model ReLU has no parameters to train"),
        ({"recipe": "sgd"}, ValueError, "unknown recipe 'sgd'. Known: airbench"),
        ({"recipe": 3}, TypeError, r"recipe is 3; expected one such as mm.Recipe"),
        ({"method": "backprop"}, ValueError, "unknown method 'backprop'. Did you mean 'backpropagation'?"),
        ({"method": "layerwise(hidden=2)"}, ValueError, "unknown argument of layerwise 'hidden'. .*'hidden_layers'"),
        ({"method": 3}, TypeError, r"method is int; expected a name \(backpropagation, .*or one such as"),
        (
            {"method": mm.FeasibleTargetPropagation()},
            ValueError,
            "takes all samples at once and no steps; call its solve",
        ),
        ({"callbacks": print}, TypeError, "callbacks is a function; expected a list of functions"),
        ({"checkpoint_every": -1}, ValueError, "checkpoint_every is -1; expected seconds"),
        ({"seed": 2**64}, ValueError, "expected an integer from 0 to"),
        ({"device": "foo"}, ValueError, "device is 'foo'; expected 'cpu'"),
        ({"model": nn.Linear(2, 5)}, ValueError, r"have the shape \(\d+, 5\); nested_rings has 2 classes: .*2\)"),
        ({"model": nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (2, 2)))}, ValueError, r"shape \(\d+, 2, 2\)"),
        ({"loss": lambda outputs, y: outputs}, TypeError, "loss returned a tensor of shape .*expected a scalar"),
        ({"loss": "mse", "recipe": mm.Recipe(label_smoothing=0.1)}, ValueError, "but the loss is 'mse'"),
        (
            {"loss": lambda o, y: o.sum(), "recipe": mm.Recipe(label_smoothing=0.1)},
            ValueError,
            "a function of your own",
        ),
        ({"data": "telgarsky", "recipe": mm.Recipe(label_smoothing=0.1)}, ValueError, "but the loss is 'mse'"),
    ],
)
def test_bad_input(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mm.fit(**{"model": _mlp(), "data": _rings(40), **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Recipe(epochs=0), "Recipe.epochs is 0; expected an integer, at least 1"),
        (lambda: mm.Recipe(epochs=1.5), "Recipe.epochs is 1.5; expected an integer"),  # type: ignore[arg-type]
        (lambda: mm.Recipe(ema=1.0), "Recipe.ema is 1.0; expected 0 to below 1"),
        (lambda: mm.Recipe(optimizer=mm.AdamW), r"expected 'sgd', 'adam', 'adamw', .*or one such as mm.SGD\("),  # type: ignore[arg-type]
        (lambda: mm.Recipe(optimizer="adamv"), "unknown optimizer 'adamv'. Did you mean 'adam'"),  # type: ignore[arg-type]
        (lambda: mm.Recipe(schedule="cosin"), "unknown schedule 'cosin'. Did you mean 'cosine'"),  # type: ignore[arg-type]
        (lambda: mm.Recipe(precision="bf32"), "unknown precision of Recipe 'bf32'. Did you mean 'fp32'"),  # type: ignore[arg-type]
        (lambda: mm.SGD(lr=float("nan")), "SGD.lr is nan; expected a positive number"),
        (lambda: mm.SGD(momentum=2), "SGD.momentum is 2; expected 0 to below 1"),
        (lambda: mm.AdamW(weight_decay=-1), "AdamW.weight_decay is -1; expected at least 0"),
        (lambda: mm.Cosine(warmup=2), "Cosine.warmup is 2; expected 0 to below 1"),
        (lambda: mm.Cosine(floor=-0.1), "Cosine.floor is -0.1; expected 0 to 1"),
        (lambda: mm.Recipe(mixup=-1), "Recipe.mixup is -1; expected at least 0"),
        (lambda: mm.Recipe(cutmix=float("inf")), "Recipe.cutmix is inf; expected at least 0"),
        (lambda: mm.Recipe(label_smoothing=1.5), "Recipe.label_smoothing is 1.5; expected 0 to 1"),
        (lambda: mm.Recipe(optimizer=mm.SGD(lr=0)), "SGD.lr is 0; expected a positive number"),
    ],
)
def test_bad_recipes(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("schedule", [mm.Cosine(), mm.Cosine(warmup=0.2), mm.OneCycle(), mm.StepDecay((0.3, 0.6), 0.5)])
def test_schedules(schedule: Any) -> None:
    values = [schedule.factor(i / 1000) for i in range(1000)]
    assert values[0] >= 0.1  # the first step does something
    assert max(values) == pytest.approx(1, abs=6e-3)
    assert min(values) >= 0
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if isinstance(schedule, mm.StepDecay):
        assert (values[299], values[301], values[999]) == (1, 0.5, 0.25)
    else:
        assert values[-1] < 0.01


def test_a_cosine_ends_at_its_floor() -> None:
    published = mm.Cosine(warmup=20 / 300, floor=1e-6 / 4e-3)
    assert 4e-3 * published.factor(1) == pytest.approx(1e-6, rel=1e-9)
    assert 4e-3 * published.factor(160 / 300) == pytest.approx((4e-3 + 1e-6) / 2)  # half way down
    assert published.factor(20 / 300) == pytest.approx(1)


def test_recipes_read_back_from_their_configuration() -> None:
    recipes = [
        mm.Recipe(),
        mm.Recipe(3, 7, mm.AdamW(betas=(0.8, 0.9)), mm.StepDecay(at=(0.1,)), ema=0.9, precision="bf16"),
        mm.Recipe(mixup=0.8, cutmix=1, augmentation=mm.Augmentation(4, randaugment=9, erase=0.25)),
        default_recipe(mm.load_data("digits"), mm.create_model("resnet20")),
        default_recipe(_rings(), nn.Linear(2, 2)),
    ]
    for recipe in recipes:
        assert from_config(as_config(recipe)) == recipe
    with pytest.raises(ValueError, match="Did you mean 'AdamW'"):
        from_config({"Recipe": {"optimizer": {"AdmaW": {}}}})


class _Breaks(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {"nan": torch.log(-x.abs()), "inf": x / 0}[self.kind]


def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes() -> None:
    data = _rings(40)
    outputs, y = torch.randn(7, 2), torch.arange(7) % 2
    log_p = outputs.log_softmax(1)
    expected = -(0.7 * log_p[range(7), y] + 0.3 * log_p.mean(1)).mean()
    torch.testing.assert_close(as_loss(None, data, mm.Recipe(label_smoothing=0.3))(outputs, y), expected)
    trained = [mm.fit(_mlp(), data, recipe=mm.Recipe(1, 40, label_smoothing=s)).history[0] for s in (0.0, 0.3)]
    assert trained[0]["train_loss"] != trained[1]["train_loss"]


def test_what_is_no_weight_does_not_decay() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
            self.matrix = nn.Parameter(torch.ones(2, 3))

    model = nn.ModuleDict(
        {"norm": nn.LayerNorm([3, 8, 8]), "own": Scaled(), "narrow": nn.Conv2d(4, 1, 1), "one": nn.Linear(5, 1)}
    )
    names = {p: name for name, p in model.named_parameters()}
    decayed, others = mm.SGD(weight_decay=0.1).build(model).param_groups
    assert {names[p] for p in decayed["params"]} == {"own.matrix", "narrow.weight", "one.weight"}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0)
    assert len(others["params"]) == len(names) - 3
    *_, scalars = mm.SGD(weight_decay=0.1).build(model, 0.1).param_groups
    assert [names[p] for p in scalars["params"]] == ["narrow.bias", "one.bias"]
    assert (scalars["share"], scalars["weight_decay"]) == (0.1, 0)


def test_scalars_move_at_their_share_of_the_rate() -> None:
    class Factor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.vector = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.factor * self.vector * x

    moved = []
    for share in (1.0, 0.1):
        model = Factor()
        plain = mm.SGD(0.01, momentum=0.0, weight_decay=0.0)
        mm.fit(model, _rings(20), recipe=mm.Recipe(1, 20, plain, mm.StepDecay(at=()), scalars=share))
        moved.append((float(model.factor.detach()) - 1, model.vector.detach() - 1))
    assert moved[1][0] == pytest.approx(0.1 * moved[0][0], rel=1e-3)
    assert torch.equal(moved[1][1], moved[0][1])


def test_a_model_may_have_a_method_called_project() -> None:
    class Own(nn.Linear):
        def project(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    mm.fit(Own(2, 2), _rings(40), recipe=mm.Recipe(1, 20))


def test_the_end_is_told_of_the_weights_that_are_returned() -> None:
    model = _mlp()
    events: list[list[torch.Tensor]] = []

    def watch(event: Event) -> None:
        if isinstance(event, Finished):
            events.append(_weights(model))

    mm.fit(model, _rings(60), recipe=mm.Recipe(epochs=1, batch_size=20, ema=0.5), callbacks=[watch])
    assert _same(events[0], _weights(model))


def test_a_loader_s_labels_are_checked_as_they_come() -> None:
    x, y = torch.randn(40, 2), torch.arange(40) % 2
    test = DataLoader(TensorDataset(x, torch.where(torch.arange(40) == 30, 2, y)), batch_size=10)
    with pytest.raises(ValueError, match="given has a sample of class 2; expected 0 to 1"):
        mm.fit(_mlp(), ((x, y), test), recipe=mm.Recipe(1, 20))


def test_a_gradient_that_is_not_finite_is_named() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.offset = nn.Linear(2, 2), nn.Parameter(torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + self.offset.sqrt()

    model = Root()
    with pytest.raises(NonFiniteLossError, match="at step 0, but the gradient of offset is infinite"):
        mm.fit(model, _rings(40), recipe=mm.Recipe(1, 20, clip=1.0))
    assert torch.equal(model.offset, torch.zeros(2))


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_the_layer(kind: str) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), _Breaks(kind), nn.Linear(4, 2))
    with pytest.raises(NonFiniteLossError, match=r"at step 0. It began in the output of 2 \(_Breaks\)"):
        mm.fit(model, _rings(40), recipe=mm.Recipe(1, 20))


def test_a_module_that_computes_between_its_modules_is_named() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) / 0

    model = nn.Sequential(nn.Linear(2, 2), Outer(), nn.ReLU(inplace=True))
    with pytest.raises(NonFiniteLossError, match=r"in the output of 1 \(Outer\), .*, between its modules"):
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
    from minimand.training.hooks.watching.nonfinite import origin

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
    evaluation = mm.evaluate(model, data, samples=data.test, loss=loss)
    x, y = next(data.test.batches(700))
    with torch.no_grad():
        outputs = model.eval()(x)
    assert evaluation.loss == pytest.approx(float(loss(outputs, y)), rel=1e-5)
    assert evaluation.accuracy == pytest.approx(float((outputs.argmax(1) == y).float().mean()))
    model.train()
    mm.evaluate(model, data, samples=data.test, loss=loss)
    assert model.training
    by_name = mm.evaluate(model, "nested_rings(samples=700)")
    assert (by_name.loss, by_name.accuracy) == pytest.approx((evaluation.loss, evaluation.accuracy))
    with pytest.raises(ValueError, match=r"outputs for \d+ samples have the shape \(\d+, 3\)"):
        mm.evaluate(nn.Linear(2, 3), data)


@pytest.mark.parametrize("optimizer", [mm.Adam(0.1, weight_decay=0.5), mm.AdamW(0.1, weight_decay=0.5)])
def test_where_weight_decay_goes(optimizer: mm.AdamW) -> None:
    """Without a gradient Adam takes a whole step against the sign of each weight, AdamW a share of the weight off."""
    layer = nn.Linear(3, 2)
    weight, bias = (p.detach().clone() for p in layer.parameters())
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.build(layer).step()
    expected = weight - 0.1 * weight.sign() if isinstance(optimizer, mm.Adam) else weight * (1 - 0.1 * 0.5)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bias.detach(), bias)


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (nn.Linear(5, 3), (4, 6), "mat1 and mat2"),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 3)), (4, 3, 4, 4), "3 channels"),
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(11, 3)), (4, 3, 4, 4), "mat1 and mat2"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_named_with_the_shapes(
    model: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    data = (torch.randn(shape), torch.arange(4) % 3)
    with pytest.raises(ValueError, match="does not fit .*: it fails on inputs of the shape") as caught:
        mm.fit(model, (data, data), recipe=mm.Recipe(1, 4), progress=False)
    assert str(shape) in str(caught.value)
    assert reason in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
