"""What people have as data: each kind is trained on, and learned."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import minimand as mm
from minimand.data import NoSamples
from minimand.data.conversion import as_data
from minimand.training import FitResult
from minimand.training.loop.losses import aligned, as_loss

QUICK = mm.Recipe(epochs=12, batch_size=20, optimizer=mm.Adam(0.2))


def _fit(model: nn.Module, data: Any, recipe: mm.Recipe = QUICK, **options: Any) -> FitResult:
    return mm.fit(model, data, recipe=recipe, progress=False, **options)


def _linear(n: int = 120, classes: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return x, x[:, :classes].argmax(1)


@pytest.mark.parametrize("loss", [nn.HuberLoss(), nn.MSELoss(), nn.L1Loss(), F.smooth_l1_loss, "mse", None])
@pytest.mark.parametrize(("column", "target_column"), [(True, False), (False, True), (True, True), (False, False)])
def test_outputs_and_targets_of_a_regression_never_broadcast(loss: Any, column: bool, target_column: bool) -> None:
    """Whatever the shapes, the loss is that of the sample-wise differences."""
    outputs, targets = torch.randn(9), torch.randn(9)
    y = targets[:, None] if target_column else targets
    data = as_data(((torch.randn(9, 2), y), None))
    value = as_loss(loss, data)(outputs[:, None] if column else outputs, y)
    expected = (F.mse_loss if loss in ("mse", None) else loss)(outputs, targets)
    assert float(value) == pytest.approx(float(expected))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    places=st.lists(st.integers(1, 4), max_size=3),
    classes=st.integers(2, 5),
    more=st.integers(0, 3),
    is_last=st.booleans(),
)
def test_outputs_of_any_places_fit_their_targets(n: int, places: list[int], classes: int, more: int, is_last: bool):
    """The loss is the mean over all places, wherever the classes stand among the dimensions."""
    shape = (n, *places)
    y = torch.arange(n * torch.Size(places).numel()).reshape(shape) % classes
    z = torch.randn(*shape, classes + more)
    if is_last and z.shape[2:] == y.shape[1:] and places:
        return  # classes as many as places: torch's convention counts, and they stand second
    data = mm.Data("d", NoSamples(), NoSamples(), (), classes=tuple(map(str, range(classes))))
    value = as_loss(None, data)(z if is_last or not places else z.movedim(-1, 1), y)
    assert float(value) == pytest.approx(float(F.cross_entropy(z.flatten(0, -2), y.flatten())), rel=1e-4)


def test_more_outputs_than_classes_are_fine_and_fewer_are_not() -> None:
    x, y = _linear(classes=4)
    result = _fit(nn.Linear(6, 10), ((x, y), (x, y)))
    assert (result.test_accuracy or 0) > 0.9
    assert result.evaluation is not None
    assert len(result.evaluation.confusion or ()) == 10
    with pytest.raises(ValueError, match=r"shape \(20, 3\); given has 4 classes: expected \(20, 4\)"):
        _fit(nn.Linear(6, 3), ((x, y), None))
    _fit(nn.Linear(6, 10), ((x, y), (x, y)), mm.Recipe(1, mixup=0.2))


def test_labels_that_do_not_begin_at_0_are_an_error_that_says_what_to_do() -> None:
    x, y = _linear(classes=3)
    with pytest.raises(ValueError, match=r"classes in train are 1 to 3; .* targets - 1\."):
        _fit(nn.Linear(6, 4), ((x, y + 1), (x, y + 1)))
    with pytest.warns(UserWarning, match="no training sample has the class 1, 3"):
        as_data(((x, 2 * y), None))


@pytest.mark.parametrize("loss", [None, nn.BCEWithLogitsLoss(), "mse"])
@pytest.mark.parametrize("model", [nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))])
def test_one_logit_is_enough_for_two_classes(model: nn.Module, loss: Any) -> None:
    result = _fit(model, (_linear(), _linear()), loss=loss)
    assert (result.test_accuracy or 0) > 0.9
    if loss is None:
        _fit(model, (_linear(), _linear()), mm.Recipe(1, label_smoothing=0.1, mixup=0.2))


def test_segmentation_is_trained_and_places_without_a_class_do_not_count() -> None:
    x = torch.randn(40, 1, 6, 6)
    y = (x[:, 0] > 0).long()
    y[:, 0] = -100
    result = _fit(nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)), ((x, y), (x, y)))
    assert (result.test_accuracy or 0) > 0.9
    assert result.evaluation is not None
    assert sum(map(sum, result.evaluation.confusion or ())) == 40 * 5 * 6
    assert result.history[-1]["train_accuracy"] <= 1


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 2), nn.Linear(3, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.first(first) + self.second(second)


class Pairs(TensorDataset):
    def __getitem__(self, i: int) -> Any:
        first, second, y = super().__getitem__(i)
        return (first, second), y


def test_several_inputs_are_arguments_and_a_dictionary_is_arguments_by_name() -> None:
    x, y = _linear()
    extra = torch.zeros(len(x), 3)
    named = {"second": extra, "first": x}
    several = [
        (((x, extra), y), None),
        (Pairs(x, extra, y), Pairs(x, extra, y)),
        ((named, y), (named, y)),
        DataLoader(Pairs(x, extra, y), batch_size=20),
    ]
    for data in several:
        result = _fit(Sum(), data, mm.Recipe(12, 20, mm.Adam(0.2), accumulate=1 if data is several[3] else 2))
        accuracy = mm.evaluate(result.model, (((x, extra), y), ((x, extra), y))).accuracy
        assert accuracy is not None
        assert accuracy > 0.9
    with pytest.raises(ValueError, match="Layerwise takes one tensor as a model's input, and given has a tuple"):
        _fit(Sum(), several[0], method="layerwise")
    with pytest.raises(ValueError, match="Recipe.mixup .* a batch has inputs in a tuple"):
        _fit(Sum(), several[0], mm.Recipe(1, mixup=0.2))


class Rows(Dataset):
    """Rows as the library `datasets` gives them."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: column[i] for name, column in self.columns.items()}


class Judged(nn.Module):
    """A model that judges its outputs itself where it is given labels."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Any:
        assert input_ids.dtype == torch.int64
        logits = self.head((self.table(input_ids) * attention_mask[..., None]).mean(1))
        own = None if labels is None else 3 * F.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=own)


def test_dictionaries_with_labels_are_trained_by_the_model_s_own_loss() -> None:
    ids = torch.randint(50, (80, 7))
    labels = (ids[:, 0] > 25).long()
    rows = Rows(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
    model = Judged()
    own = mm.evaluate(model, (rows, rows)).loss
    assert own == pytest.approx(3 * mm.evaluate(model, (rows, rows), loss="cross_entropy").loss, rel=1e-5)
    result = _fit(model, (rows, DataLoader(rows, batch_size=16)))
    assert (result.test_accuracy or 0) > 0.9
    with pytest.raises(ValueError, match="Recipe.label_smoothing is 0.1, but the loss is the model's own"):
        _fit(model, (rows, rows), mm.Recipe(1, label_smoothing=0.1))
    with pytest.raises(TypeError, match="in train a batch, dict of 'input_ids', has no 'labels'"):
        as_data(([{"input_ids": ids}], None))


def test_a_model_of_transformers_is_trained_on_its_batches() -> None:
    import minimand.vision  # noqa: F401  # what transformers needs beside a torch without CUDA

    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    ids = (torch.arange(8) + torch.arange(40)[:, None]) % 30
    rows = Rows(input_ids=ids, labels=ids)
    result = _fit(model, (rows, rows), mm.Recipe(10, 10, mm.Adam(0.02)))
    assert result.test_loss is not None
    assert result.test_loss < 1.5  # of log(30) = 3.4: the model moves the labels by one itself
    assert result.test_accuracy is None


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(TensorDataset(*_linear()))


def test_iterable_data_are_trained_on_with_and_without_a_length() -> None:
    for data in ((Stream(), Stream()), (DataLoader(Stream(), 20), None), (Stream(), None)):
        result = _fit(nn.Linear(6, 2), data)
        assert len(result.data.train) == 120
        assert result.history[-1]["step"] == 12 * 6
        assert result.history[-1]["train_accuracy"] > 0.9
    whole = list(as_data(Stream()).train.batches(50, seed=0))
    rest = list(as_data(Stream()).train.batches(50, seed=0, first=1))
    assert [len(y) for _, y in whole] == [50, 50]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[1:], rest, strict=True))


def test_without_test_samples_nothing_is_made_up(tmp_path: Any) -> None:
    x, y = _linear()
    for data in ((x, y), ((x, y), None), TensorDataset(x, y)):
        result = _fit(nn.Linear(6, 2), data, run=tmp_path / str(type(data)))
        assert (result.test_loss, result.test_accuracy, result.evaluation) == (None, None, None)
        assert "no test samples" in str(result)
        with pytest.raises(ValueError, match="given has no test samples"):
            mm.evaluate(result.model, data)
    model = mm.create_model("mlp(depth=2)", in_channels=6, num_classes=2)
    assert _fit(model, (x, y), method="layerwise").test_loss is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_token_ids_stay_integers_and_other_integers_become_floats(dtype: torch.dtype) -> None:
    ids = torch.randint(2**15 - 1, (60, 3)).to(dtype)
    table = nn.Embedding(2**15, 2, sparse=False)
    batches: list[Tensor] = []
    table.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
    y = (ids[:, 0] % 2).long()
    _fit(nn.Sequential(table, nn.Flatten(), nn.Linear(6, 2)), ((ids, y), (ids, y)), mm.Recipe(1))
    assert all(x.dtype == torch.int64 for x in batches)
    assert torch.equal(batches[-1], ids.long())
    _fit(nn.Linear(3, 2), ((ids, y), (ids, y)), mm.Recipe(1))
    assert as_data(((ids, y), None)).prepare(torch.ones(1, 1, 2, 2, dtype=torch.uint8)).dtype == torch.float32


def test_bytes_of_images_are_no_ids_where_a_model_embeds_positions() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.positions, self.head = nn.Conv2d(3, 8, 4, 4), nn.Embedding(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.patches(x).flatten(2).mT + self.positions.weight).mean(1))

    x, y = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8) % 2
    data = as_data(((x, y), (x, y)))
    assert _fit(Embedded(), data, mm.Recipe(1)).test_accuracy is not None
    assert torch.equal(data.for_model(Embedded()).example(), data.example())


def test_ids_above_2_to_the_24_are_what_they_were() -> None:
    ids = torch.tensor([[2**24 + 1], [2**40 + 1]])
    data = as_data(((ids, torch.tensor([0, 1])), None)).for_model(nn.Embedding(2, 2))
    assert torch.equal(data.example(), ids)


def test_metrics_of_one_s_own_see_all_test_samples_together(tmp_path: Any) -> None:
    x, y = _linear(1100)
    sizes = {"n": lambda outputs, targets: len(targets), "spread": lambda outputs, targets: outputs.std()}
    result = _fit(nn.Linear(6, 2), ((x, y), (x, y)), mm.Recipe(2), metrics=sizes, run=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.metrics["n"] == 1100
    with torch.no_grad():
        assert result.history[-1]["spread"] == pytest.approx(float(result.model(x).std()), rel=1e-4)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["f1"], "metrics is list; expected functions"),
        ({"f1": 1}, "metrics has a int as 'f1'; expected functions"),
        ({"test_loss": len}, "metrics has 'test_loss', which the history has"),
        ({"broken": lambda outputs, targets: outputs @ targets}, "the metric 'broken' fails on outputs"),
    ],
)
def test_metrics_that_cannot_be_are_named(metrics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _fit(nn.Linear(6, 2), (_linear(), _linear()), mm.Recipe(1), metrics=metrics)


def test_a_metric_that_has_no_value_is_none_and_the_run_goes_on(tmp_path: Path) -> None:
    folder, metrics = tmp_path / "run", {"f1": lambda outputs, targets: 0 * outputs.sum() / 0}
    for _ in range(2):
        result = _fit(nn.Linear(6, 2), (_linear(), _linear()), mm.Recipe(2), metrics=metrics, run=folder)
        assert [record["f1"] for record in result.history] == [None, None]


def test_a_validation_loss_that_is_nan_ends_the_training() -> None:
    x, y = _linear()
    part = as_data(((x, y), (x, y)))
    broken = as_data((x * math.inf, y)).train
    data = mm.Data("d", part.train, part.test, (6,), classes=("a", "b"), validation=broken)
    with pytest.raises(mm.training.NonFiniteLossError, match="the validation loss is nan"):
        _fit(nn.Linear(6, 2), data, mm.Recipe(1))


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_validation_part_of_the_data_is_what_early_stopping_judges_by(share: float) -> None:
    x, y = _linear()
    part = as_data(((x, y), (x, y)))
    data = mm.Data("d", part.train, part.test, (6,), classes=("a", "b"), validation=as_data((x[:30], 1 - y[:30])).train)
    result = _fit(nn.Linear(6, 2), data, mm.Recipe(20, 20, mm.Adam(0.1), validation=share, early_stopping=2))
    assert len(result.history) < 20  # the labels of validation are turned around, and its loss rises from the start
    assert result.history[0]["validation_accuracy"] < 0.5


def test_outputs_that_fit_nothing_are_named() -> None:
    y = torch.tensor([0, 1, 2])
    data = as_data((torch.ones(3, 2), y))
    for shape, message in (((3,), "targets.float"), ((3, 3, 2), "expected"), ((2, 3), "expected")):
        with pytest.raises(ValueError, match=message):
            aligned(torch.randn(shape), y, data)


class Promised(IterableDataset):
    """Data that promise a length and have another one."""

    def __init__(self, promised: int, has: int) -> None:
        self.promised, self.has = promised, has

    def __len__(self) -> int:
        return self.promised

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((torch.full((6,), float(i)), i % 2) for i in range(self.has))


@pytest.mark.parametrize("promised", [40, 80, 100])
@pytest.mark.parametrize("is_loader", [True, False])
@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_an_epoch_is_as_long_as_data_promise_or_an_error(promised: int, is_loader: bool) -> None:
    data = Promised(promised, 80)
    part = DataLoader(data, 20) if is_loader else data
    if promised > 80:
        with pytest.raises(ValueError, match="ended after 4 batches, and by its length it has 5|ended after 1 batches"):
            _fit(nn.Linear(6, 2), (part, None))
        return
    sizes: list[int] = []
    model = nn.Linear(6, 2)
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    _fit(model, (part, None), mm.Recipe(2, 20))
    assert sizes == [20] * (2 * promised // 20)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((np.zeros((4, 6)), np.array(list("abab"))), "train has an array that is no tensor.*str_"),
        ((torch.ones(4, 6, dtype=torch.complex64), torch.arange(4) % 2), "inputs of train are torch.complex64"),
        ((torch.tensor(1.0), torch.tensor(1)), "train has 0 inputs with 0 targets"),
        (Promised(0, 0), "train is an empty Promised"),
        (DataLoader(Promised(0, 0), 2), "train is an empty DataLoader"),
    ],
)
def test_what_is_no_data_is_named(part: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_data((part, None))


def test_a_loss_and_samples_of_the_wrong_kind_are_named() -> None:
    with pytest.raises(TypeError, match=r"loss is the class MSELoss; expected one of it: MSELoss\(\)"):
        _fit(nn.Linear(6, 2), (_linear(), None), loss=nn.MSELoss)
    with pytest.raises(TypeError, match="samples is tuple; expected those of some mm.Data"):
        mm.evaluate(nn.Linear(6, 2), (_linear(), None), samples=_linear())  # pyright: ignore[reportArgumentType]
