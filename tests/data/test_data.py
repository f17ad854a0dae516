import gzip
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.data.conversion import as_data
from minimand.data.data import channel_statistics, in_single_precision
from minimand.data.registry import DATA, DataSet
from minimand.data.samples import Arrays, Items, Loader
from minimand.data.sets.fashion_mnist import DEBIAN
from minimand.recipes.augmentation import Augmentation


def test_every_data_set_has_a_line_and_references_that_can_be_cited() -> None:
    lines = mm.list_data()
    named = {"cifar10", "cifar100", "digits", "fashion_mnist", "nested_rings", "parity", "telgarsky"}
    named |= {"bible", "python_stdlib", "tinyshakespeare"}
    assert set(lines) == named
    assert all(len(line) > 25 for line in lines.values())
    assert [name for name in lines if not mm.bibliography(name)] == ["bible", "parity", "python_stdlib"]


def test_a_package_of_somebody_else_brings_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value, module, dist = "spirals", "theirs:spirals", "theirs", None

        def load(self) -> DataSet:
            return DataSet(spirals, ("he2016resnet",))

    def spirals(turns: int = 1) -> mm.Data:
        return replace(mm.load_data("parity"), name=f"spirals of {turns}")

    known = dict(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(
            "minimand._support.names.registry.entry_points", lambda group: [Point()] if group == "minimand.data" else []
        )
        patch.setattr(DATA, "_is_loaded", False)
        patch.setattr(DATA, "_things", known)
        assert "spirals" in mm.list_data()
        data = mm.load_data("spirals(turns=3)")
        assert (data.name, data.references) == ("spirals of 3", ("he2016resnet",))
        assert data.loaded == {"name": "spirals", "turns": 3}
    assert "spirals" not in mm.list_data()


@pytest.mark.parametrize("name", ["digits", "nested_rings", "parity", "telgarsky"])
def test_named_data_is_whole_and_repeatable(name: str) -> None:
    data, again = mm.load_data(name), mm.load_data(name)
    for part, other in ((data.train, again.train), (data.test, again.test)):
        assert isinstance(part, Arrays)
        assert isinstance(other, Arrays)
        assert torch.equal(part.inputs, other.inputs)
        assert tuple(part.inputs.shape[1:]) == data.shape
    assert mm.load_data(**data.loaded).name == name
    assert name in str(data)


def test_digits_are_normalized_and_split_evenly() -> None:
    data = mm.load_data("digits")
    assert isinstance(data.train, Arrays)
    x = data.prepare(data.train.inputs)
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)
    counts = torch.bincount(data.train.targets).float()
    assert counts.max() / counts.min() < 1.1


def test_statistics_are_those_of_exact_arithmetic_whatever_the_processor_sums() -> None:
    """Equal, not close: a run that goes on upon another machine is held to the numbers that it began with."""
    x = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8)
    table = torch.randn(50, 3) * 1e3
    columns = [[Fraction(int(v), 255) for v in x[:, c].flatten()] for c in range(3)]
    assert channel_statistics(x) == tuple(zip(*map(_in_float32, columns), strict=True))
    for lanes in (1, 7):
        parts = [table[i::lanes].double().sum(0) for i in range(lanes)]
        assert in_single_precision(sum(parts) / 50) == in_single_precision(table.double().mean(0))


def _in_float32(values: list[Fraction]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    return float(np.float32(float(mean))), float(np.float32(math.sqrt(variance)))


def test_rings_lie_on_their_radii() -> None:
    data = mm.load_data("nested_rings(samples=500)")
    assert isinstance(data.train, Arrays)
    radius = data.train.inputs.norm(dim=1)
    for label, r in ((0, 0.5), (1, 1.0)):
        own = radius[data.train.targets == label]
        assert own.min() >= 3 * r
        assert own.max() <= 3 * (r + 0.2)


def test_parity_and_telgarsky_are_what_they_are_called() -> None:
    parity = mm.load_data("parity", bits=5).train
    assert isinstance(parity, Arrays)
    assert len(parity) == 32
    assert torch.equal(parity.targets, (parity.inputs.prod(1) * (-1) ** 5 < 0).long())
    tent = mm.load_data("telgarsky", folds=3, points=17).train
    assert isinstance(tent, Arrays)
    assert tent.targets[::2].flatten().tolist() == pytest.approx([0, 1, 0, 1, 0, 1, 0, 1, 0])  # four teeth
    assert float(((tent.targets - 0.5) ** 2).mean()) == pytest.approx(1 / 12, abs=0.05)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_debian() -> None:
    data = mm.load_data("fashion_mnist")
    assert (len(data.train), len(data.test), data.shape) == (60_000, 10_000, (1, 28, 28))
    assert isinstance(data.train, Arrays)
    assert torch.bincount(data.train.targets).tolist() == [6000] * 10
    assert data.mean[0] == pytest.approx(0.2860, abs=1e-4)  # known of this set
    assert data.std[0] == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.soak
def test_cifar10_from_parquet(shared: Path) -> None:
    data = mm.load_data("cifar10", data_folder=str(shared / "data" / "cifar10"))
    assert (len(data.train), len(data.test), data.shape) == (50_000, 10_000, (3, 32, 32))
    assert data.classes[3] == "cat"
    assert isinstance(data.test, Arrays)
    assert torch.bincount(data.test.targets).tolist() == [1000] * 10
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)


def _idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_fashion_mnist_from_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28))
    for part in ("train", "t10k"):
        _idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        _idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(6))
    data = mm.load_data("fashion_mnist", data_folder=str(tmp_path))
    assert isinstance(data.train, Arrays)
    assert np.array_equal(data.train.inputs[:, 0].numpy(), images)
    packed = tmp_path / "train-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress((tmp_path / "train-images-idx3-ubyte").read_bytes())[:-40])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        mm.load_data("fashion_mnist", data_folder=str(tmp_path))
    packed.unlink()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03short")
    with pytest.raises(ValueError, match="is no whole IDX file"):
        mm.load_data("fashion_mnist", data_folder=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="expected the four files"):
        mm.load_data("fashion_mnist", data_folder=str(tmp_path / "nothing"))


def _images(folder: Path, classes: str = "ab", count: int = 6, size: tuple[int, int] = (10, 12)) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_image_folders(tmp_path: Path) -> None:
    whole = mm.load_data(str(_images(tmp_path / "whole")))
    assert (whole.shape, whole.classes, len(whole.train), len(whole.test)) == ((3, 10, 12), ("a", "b"), 10, 2)
    for part in ("train", "test"):
        _images(tmp_path / "split" / part, count=4)
    split = mm.load_data(str(tmp_path / "split"), image_size=8)
    assert (split.shape, len(split.train), len(split.test)) == ((3, 8, 8), 8, 8)
    mixed = _images(tmp_path / "mixed", "ab", size=(12, 18))
    Image.new("RGB", (7, 9)).save(mixed / "a" / "odd.png")
    with pytest.warns(UserWarning, match=r"sides of 7 to 18 pixels; they are scaled and cropped to 12 x 12"):
        assert mm.load_data(str(mixed)).shape == (3, 12, 12)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    folder = _images(tmp_path / "deep", size=(8, 8))
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for file in folder.rglob("*.png"):
        Image.fromarray(ramp).save(file)
    train = mm.load_data(str(folder)).train
    assert isinstance(train, Arrays)
    assert train.inputs.shape[1:] == (1, 8, 8)
    assert np.array_equal(train.inputs[0, 0].numpy(), ramp // 257)
    Image.fromarray(np.ones((8, 8), np.float32)).save(folder / "a" / "float.tiff")
    with pytest.raises(ValueError, match=r"float.tiff has the mode F; expected 8 or 16 bits"):
        mm.load_data(str(folder))


def test_one_image_with_colour_keeps_all_in_colour(tmp_path: Path) -> None:
    folder = _images(tmp_path / "grey", size=(8, 8))
    files = sorted(folder.rglob("*.png"))
    for file in files[:-1]:
        Image.open(file).convert("L").save(file)
    assert mm.load_data(str(folder)).shape == (3, 8, 8)
    Image.open(files[-1]).convert("L").save(files[-1])
    assert mm.load_data(str(folder)).shape == (1, 8, 8)


def test_a_split_of_one_s_own_images_keeps_the_shares_of_the_classes(tmp_path: Path) -> None:
    folder = _images(tmp_path / "uneven", "a", 40, (8, 8))
    _images(tmp_path / "uneven", "b", 10, (8, 8))
    data = mm.load_data(str(folder))
    assert isinstance(data.test, Arrays)
    assert torch.bincount(data.test.targets).tolist() == [8, 2]


def test_images_that_do_not_fit_in_memory_are_decoded_when_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    folder = str(_images(tmp_path / "large", size=(8, 8)))
    in_memory = mm.load_data(folder, image_size=8)
    monkeypatch.setattr("minimand.data.files.images._BYTES_IN_MEMORY", 0)
    data = mm.load_data(folder, image_size=8)
    assert isinstance(data.test, Items)
    x, y = next(Items(data.test.dataset, workers=0).batches(9))
    expected, targets = next(in_memory.test.batches(9))
    assert torch.equal(x, expected)
    assert torch.equal(y, targets)


def test_training_images_that_do_not_fit_in_memory_are_cropped_at_random(tmp_path: Path, monkeypatch: Any) -> None:
    """Colours that tell the place show which part each one is: its area and its ratio, and that it is drawn anew."""
    place = np.arange(100, dtype=np.uint8) * 2
    image = np.stack([*np.meshgrid(place, place), np.zeros((100, 100), np.uint8)], axis=-1)
    folder = _images(tmp_path / "large", count=100)
    for file in folder.rglob("*.png"):
        Image.fromarray(image).save(file)
    monkeypatch.setattr("minimand.data.files.images._BYTES_IN_MEMORY", 0)
    data = mm.load_data(str(folder), image_size=16)
    assert data.augmentation == Augmentation(flip=True)
    assert isinstance(data.train, Items)
    train = Items(data.train.dataset, workers=0)
    whole = list(train.batches(40, seed=1))
    x = torch.cat([inputs for inputs, _ in whole]).float()
    # From the middle of the first pixel to that of the last.
    width, height = ((x[:, c, -1, -1] - x[:, c, 0, 0]) / 2 * 16 / 15 for c in (0, 1))
    area, ratio = width * height / 100**2, width / height
    assert area.min() > 0.07
    assert area.max() < 1.02
    assert float(area.mean()) == pytest.approx(0.5, abs=0.07)
    assert ratio.min() > 0.7
    assert ratio.max() < 1.45
    assert len({tuple(corner.tolist()) for corner in x[:, :2, 0, 0]}) > 100
    rest = list(train.batches(40, seed=1, first=2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0][0], next(train.batches(40, seed=2))[0])


def test_bad_image_folders(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"expected at least two folders of images, one per class; found none"):
        mm.load_data(str(empty))
    with pytest.raises(ValueError, match="found a"):
        mm.load_data(str(_images(tmp_path / "one", "a")))
    with_docs = _images(tmp_path / "docs", "a")
    (with_docs / "notes").mkdir()
    (with_docs / "notes" / "read.txt").write_text("me")
    with pytest.raises(ValueError, match=r"one per class; found a\."):
        mm.load_data(str(with_docs))
    for part, classes in (("train", "ab"), ("test", "abc")):
        _images(tmp_path / "parts" / part, classes)
    with pytest.raises(ValueError, match="c has test images and no training images"):
        mm.load_data(str(tmp_path / "parts"))
    with pytest.raises(ValueError, match="image_size is 0; expected an integer, 1 to 8192"):
        mm.load_data(str(_images(tmp_path / "sized")), image_size=0)
    corrupt = _images(tmp_path / "corrupt")
    (corrupt / "b" / "3.png").write_bytes((corrupt / "b" / "3.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b/3\.png is no readable image"):
        mm.load_data(str(corrupt))
    (corrupt / "b" / "3.png").write_text("no image")
    with pytest.raises(ValueError, match=r"b/3\.png is no readable image; remove or replace it"):
        mm.load_data(str(corrupt))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("cifar", ValueError, r"unknown data set 'cifar'\. Did you mean 'cifar10'"),
        ("missing_folder", ValueError, "Nor is there a file or folder 'missing_folder'; .* owner/name"),
        ("cifar10(folder='x')", ValueError, "unknown argument of cifar10 'folder'. Did you mean 'data_folder'"),
        ("cifar10(data_folder='nowhere')", FileNotFoundError, "no train.*parquet in 'nowhere'"),
        ("./nowhere/images", FileNotFoundError, "no file or folder './nowhere/images'"),
        ("parity(bits=40)", ValueError, "bits is 40; expected an integer, 1 to 20"),
        ("telgarsky(folds=0)", ValueError, "folds is 0; expected an integer, at least 1"),
    ],
)
def test_bad_names(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mm.load_data(name)


def _pairs(n: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n).float()[:, None], torch.arange(n) % 3


def test_what_may_stand_for_data() -> None:
    x, y = _pairs()
    tensors = as_data(((x, y), (x, y)))
    sets = as_data((TensorDataset(x, y), TensorDataset(x, y)))
    loaders = as_data((DataLoader(TensorDataset(x, y), batch_size=4), DataLoader(TensorDataset(x, y))))
    for data in (tensors, sets, loaders):
        assert (data.shape, data.task, len(data.classes)) == ((1,), "classification", 3)
        assert len(data.train) == 10
    assert isinstance(sets.train, Items)
    assert isinstance(loaders.train, Loader)
    regression = as_data(((x, x), (x, x)))
    assert (regression.task, regression.num_outputs) == ("regression", 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "data is int; expected a name, an mm.Data, or a pair"),
        ((_pairs(), 3), r"test is int; expected a pair \(inputs, targets\) of tensors"),
        ((iter([]), _pairs()), "train: list_iterator can be read only once"),
    ],
)
def test_what_may_not(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_data(value)


def test_inputs_and_targets_have_to_match() -> None:
    with pytest.raises(ValueError, match="10 inputs with 9 targets"):
        Arrays(_pairs()[0], _pairs(9)[1])


@pytest.mark.parametrize("kind", ["arrays", "items", "loader"])
def test_batches_can_be_entered_anywhere(kind: str) -> None:
    """From batch b on they are what they would have been, random transforms included."""
    x, y = _pairs(23)

    class Noisy(TensorDataset):
        def __getitem__(self, i: int):
            inputs, target = super().__getitem__(i)
            return inputs + torch.rand(1) + np.random.rand(), target

    forms: Any = {
        "arrays": Arrays(x, y),
        "items": Items(Noisy(x, y), workers=0),
        "loader": Loader(DataLoader(Noisy(x, y), batch_size=5, shuffle=True)),
    }[kind]
    whole = list(forms.batches(5, seed=7))
    for first in (0, 1, 3):
        rest = list(forms.batches(5, seed=7, first=first))
        assert len(rest) == len(whole) - first
        for (a, b), (c, d) in zip(whole[first:], rest, strict=True):
            torch.testing.assert_close(a.float(), c.float(), rtol=0, atol=0)
            assert torch.equal(b, d)
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(whole, forms.batches(5, seed=8), strict=False))


def test_training_leaves_an_incomplete_batch_out_and_evaluation_does_not() -> None:
    samples = Arrays(*_pairs(10))
    assert [len(y) for _, y in samples.batches(4, seed=0)] == [4, 4]
    assert [len(y) for _, y in samples.batches(4)] == [4, 4, 2]
    assert [len(y) for _, y in samples.batches(16, seed=0)] == [10]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_workers_read_the_same_batches() -> None:
    items = TensorDataset(*_pairs(20))
    here = list(Items(items, workers=0).batches(4, seed=1))
    there = list(Items(items, workers=2).batches(4, seed=1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(here, there, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message of a machine without a network")
def test_without_a_network_the_hub_says_what_to_do(monkeypatch: Any) -> None:
    import datasets

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match="cannot load 'someone/images' from the hub .* name a folder"):
        mm.load_data("someone/images")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_any_integers_are_classes(dtype: torch.dtype) -> None:
    x, y = _pairs()
    y = (y % 2).to(dtype)
    data = as_data(((x.numpy(), y.numpy()), (x, y)))
    assert data.num_outputs == 2
    assert isinstance(data.train, Arrays)
    assert data.train.targets.dtype == torch.int64


def _batches(*batches: Any) -> list[Any]:
    return list(batches)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((_pairs()[0], _pairs()[1][:, None]), r"train are torch.int64 of the shape \(2, 1\).*squeeze"),
        ((_pairs()[0], _pairs(9)[1]), "train has 10 inputs with 9 targets"),
        ((_pairs()[0], _pairs()[1] - 1), "has a sample of class -1; expected 0 to 1"),
        ([], "train is an empty list"),
        (_batches((torch.ones(2, 1), torch.ones(2), 1)), "in train a batch is tuple of 3; expected a pair"),
        (_batches({"x": 1}), "in train a batch, dict of 'x', has a int as 'x', no tensor"),
        ([{"x": torch.ones(2), "y": torch.ones(2)}], "in train a batch, dict of 'x', 'y', has no 'labels'"),
        (TensorDataset(torch.zeros(0, 1), torch.zeros(0)), "train is an empty TensorDataset"),
    ],
)
def test_samples_that_do_not_fit_are_named(part: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        as_data((part, _pairs()))


def test_train_and_test_have_to_be_of_a_kind() -> None:
    x, y = _pairs()
    with pytest.raises(ValueError, match=r"the shape \(1,\) in train and \(2,\) in test"):
        as_data(((x, y), (x.repeat(1, 2), y)))
    with pytest.raises(ValueError, match="class 3; expected 0 to 2"):
        as_data(((x, y), (x, y + 1)))
    with pytest.raises(ValueError, match="torch.int64 in train and torch.float32 in test"):
        as_data(((x, y), (x, y.float())))


def test_a_loader_is_read_once_to_know_its_classes() -> None:
    x, y = _pairs(20)
    reads = []

    class Batches:
        def __len__(self) -> int:
            return 4

        def __iter__(self):
            for i in range(4):
                reads.append(i)
                yield x[5 * i : 5 * i + 5], y[5 * i : 5 * i + 5]

    data = as_data((Batches(), (x, y)))
    assert (len(data.train), data.num_outputs) == (20, 3)
    assert (len(data.train), len(reads)) == (20, 5)  # the first batch, to see what it is, and all


def test_a_loader_with_its_own_generator_follows_the_seed() -> None:
    x, y = _pairs(20)
    orders = []
    for start in (1, 2):
        own = torch.Generator().manual_seed(start)
        loader = Loader(DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True, generator=own))
        orders.append(torch.cat([b for b, _ in loader.batches(5, seed=7)]))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], x)
