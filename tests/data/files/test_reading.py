"""Files that people have, and files that somebody made to do harm."""

import gzip
import os
import resource
import socket
import string
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

import minimand as mm
from minimand.data.files.splitting import fifth_aside
from minimand.data.samples import Arrays

pytestmark = pytest.mark.filterwarnings("ignore::minimand.data.registry.DataNote")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"a host was looked up: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def _picture(path: Path, shade: int = 100, size: tuple[int, int] = (9, 8), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 0)).save(path, **options)
    return path


def _shades(*parts: Any) -> list[int]:
    """The shades of the images of some parts."""
    assert all(isinstance(part, Arrays) for part in parts)
    return sorted(int(x[0, 0, 0]) for part in parts for x in part.inputs)


def _rows(samples: Any) -> Iterator[Any]:
    return zip(samples.inputs, samples.targets, strict=True)


def test_no_file_name_says_what_is_a_test_image(tmp_path: Path) -> None:
    names = [*(f"scan_{i}.png" for i in range(8)), "rapid-test_0.png", "rapid-test_1.png"]
    for i, (kind, name) in enumerate((kind, name) for kind in ("ill", "well") for name in names):
        _picture(tmp_path / kind / name, shade=i)
    data = mm.load_data(str(tmp_path))
    assert (len(data.train), len(data.test), data.classes) == (16, 4, ("ill", "well"))
    assert _shades(data.train, data.test) == list(range(20))
    assert f"{tmp_path.name}: 20 images of 3 x 8 x 9, 2 classes, 16 to train, 4 to test" in str(data)
    assert "a fifth set aside" in str(data)
    assert isinstance(data.test, Arrays)
    assert data.test.targets.bincount().tolist() == [2, 2]


def test_classes_are_the_folders_of_the_first_level_alone(tmp_path: Path) -> None:
    for i, (kind, batch, n) in enumerate(
        (k, b, n) for k in ("cat", "dog") for b in ("batch1", "batch2") for n in "abc"
    ):
        _picture(tmp_path / kind / batch / f"{n}.png", shade=i)
    data = mm.load_data(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert isinstance(data.train, Arrays)
    for x, y in zip(data.train.inputs, data.train.targets, strict=True):
        assert int(y) == int(x[0, 0, 0]) // 6


WORDS = st.sampled_from(
    ["cat", "x[1]", "a*b", "test-set", "latest", "train_1", "validate", "öü", " ", "%s", "{}", "a(1)"]
)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.lists(WORDS, min_size=2, max_size=4, unique=True),
    names=st.lists(st.text(string.ascii_letters + "-_ []()*?%{}é", min_size=1, max_size=9), min_size=3, max_size=6),
    parts=st.sampled_from([(), ("train",), ("Train", "TEST"), ("train", "val"), ("TRAIN", "Valid", "test")]),
    depth=st.integers(0, 2),
)
def test_every_image_and_label_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str], names: list[str], parts: Any, depth: int
) -> None:
    """Whatever files, folders and classes are called, each image is read once, with the class of its folder."""
    root = tmp_path_factory.mktemp("d [x]")
    expected: dict[int, str] = {}
    for part in parts or ("",):
        for kind in classes:
            for j, name in enumerate(names):
                shade = len(expected)
                expected[shade] = kind
                _picture(root.joinpath(part, kind, *["test"] * depth, f"{j}{name}.png"), shade, size=(2, 2))
            _picture(root / part / kind / ".hidden.png")
        _picture(root / part / ".ipynb_checkpoints" / "a.png")
    data = mm.load_data(str(root))
    samples = [part for part in (data.train, data.validation, data.test) if part is not None]
    assert data.classes == tuple(sorted(classes))
    rows = [(int(x[0, 0, 0]), data.classes[int(y)]) for p in samples for x, y in _rows(p)]
    assert sorted(rows) == sorted(expected.items())
    assert (data.validation is not None) == (len(parts) == 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_images_stand_upright_whatever_way_they_were_stored(tmp_path: Path, suffix: str) -> None:
    upright = np.zeros((12, 8, 3), np.uint8)
    upright[:6] = 255
    stored = {1: 0, 3: 2, 6: 1, 8: 3}  # quarter turns that the orientation takes back
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for orientation, turns in stored.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            picture = Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns)))
            picture.save(tmp_path / kind / f"{orientation}.{suffix}", exif=exif.tobytes() if suffix != "tiff" else exif)
    data = mm.load_data(str(tmp_path))
    assert isinstance(data.train, Arrays)
    assert isinstance(data.test, Arrays)
    for x in (*data.train.inputs, *data.test.inputs):
        assert x.shape == (3, 12, 8)
        assert int(x[:, :5].min()) > 200
        assert int(x[:, 7:].max()) < 50


def test_links_are_followed_once_and_what_is_no_image_is_named(tmp_path: Path) -> None:
    root, store = tmp_path / "data", tmp_path / "store"
    for i in range(6):
        _picture(store / f"{i}.png", shade=i)
        _picture(root / "a" / f"{i}.png", shade=10 + i)
    root.joinpath("b").symlink_to(store)
    (root / "a" / "again").symlink_to(root)
    (store / "up").symlink_to(tmp_path)
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "notes.txt").write_text("me")
    (root / "c").mkdir()
    _picture(root / "loose.png")
    with pytest.warns(UserWarning, match="left out, as") as warned:
        data = mm.load_data(str(root))
    assert _shades(data.train, data.test) == [*range(6), *range(10, 16)]
    notes = "\n".join(str(w.message) for w in warned)
    for name in ("again", "up", "gone.png", "zero.png", "pipe.png", "notes.txt", "c", "loose.png"):
        assert name in notes, name


def test_a_class_may_be_called_train_and_parts_have_to_be_whole(tmp_path: Path) -> None:
    for kind in ("train", "plane"):
        for i in range(3):
            _picture(tmp_path / "vehicles" / kind / f"{i}.png")
            _picture(tmp_path / "half" / "val" / kind / f"{i}.png")
            _picture(tmp_path / "twice" / "val" / kind / f"{i}.png")
            _picture(tmp_path / "twice" / "valid" / kind / f"{i}.png")
    data = mm.load_data(str(tmp_path / "vehicles"))
    assert (data.classes, data.notes) == (("plane", "train"), ())
    with pytest.raises(ValueError, match="has the part val and no folder train"):
        mm.load_data(str(tmp_path / "half"))
    with pytest.raises(ValueError, match="val and valid are both the validation part"):
        mm.load_data(str(tmp_path / "twice"))


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train_set", "val_set"), ("train", "test")])
def test_classes_that_sound_like_parts_are_said(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        for i in range(3):
            _picture(tmp_path / name / f"{i}.png")
    with pytest.warns(UserWarning, match="classes are called .*; folders of parts are called train, test and val"):
        assert set(mm.load_data(str(tmp_path)).classes) == {*names}


def test_images_of_several_small_sizes_stay_small(tmp_path: Path) -> None:
    for i in range(10):
        _picture(tmp_path / "ab"[i % 2] / f"{i}.png", size=(12 + i, 16))
    with pytest.warns(UserWarning, match=r"sides of 12 to 21 pixels; they are scaled and cropped to 16 x 16"):
        assert mm.load_data(str(tmp_path)).shape == (3, 16, 16)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=80))
def test_a_fifth_of_every_class_is_set_aside(labels: list[int]) -> None:
    y = torch.tensor(labels)
    if max(map(labels.count, labels)) == 1:
        with pytest.raises(ValueError, match="has a class of its own.*task='regression'"):
            fifth_aside(y)
        return
    train, test = fifth_aside(y)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(y)))
    for c, count in enumerate(y.bincount().tolist()):
        aside = int((y[test] == c).sum())
        assert abs(aside - count / 5) < 1 or count < 5
        assert count == 0 or aside < count
    assert torch.equal(fifth_aside(y)[1], test)


def _png(shade: int = 0) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


LABELS = {
    "words": (["truck", "car", "bus"] * 5, ("bus", "car", "truck")),
    "from 1": ([1, 2, 5] * 5, ("1", "2", "5")),
    "booleans": ([True, False, True] * 5, ("False", "True")),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("cell", ["struct", "bytes", "path"])
def test_parquet_as_pandas_writes_it(tmp_path: Path, kind: str, cell: str) -> None:
    labels, classes = LABELS[kind]
    cells: list[Any] = []
    for i in range(15):
        (tmp_path / f"{i}.png").write_bytes(_png(i))
        cells.append({"struct": {"bytes": _png(i), "path": None}, "bytes": _png(i), "path": f"{i}.png"}[cell])
    pandas.DataFrame({"image": cells, "label": labels}).to_parquet(tmp_path / "train.parquet")
    pandas.DataFrame({"image": cells[:3], "label": labels[:3]}).to_parquet(tmp_path / "val.parquet")
    data = mm.load_data(str(tmp_path))
    assert (data.classes, len(data.train), len(data.test)) == (classes, 15, 3)
    assert isinstance(data.train, Arrays)
    assert [data.classes[int(y)] for y in data.train.targets] == [str(label) for label in labels]
    assert data.train.inputs[:, 0, 0, 0].tolist() == list(range(15))
    alone = mm.load_data(str(tmp_path / "train.parquet"))
    assert (len(alone.train), len(alone.test)) == (12, 3)


def _write(place: Path, name: str = "train", rows: int = 6, **columns: Any) -> str:
    frame = {"image": [_png()] * rows, "label": [0, 1] * (rows // 2), **columns}
    frame = {column: cells for column, cells in frame.items() if cells is not None}
    pandas.DataFrame(frame).to_parquet(place / f"{name}.parquet")
    return str(place)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["a", None, "b"] * 2}, r"train.parquet, row 2: the label is missing"),
        ({"label": [1.0, 2.0, None] * 2}, r"train.parquet, row 3: the label is missing"),
        ({"image": [_png(), _png(), None] * 2}, r"train.parquet, row [36]: the image is missing"),
        ({"image": [_png(), b"junk", None] * 2}, r"train.parquet, row 2 is no readable image"),
        ({"label": None, "kind": [0, 1, 2] * 2, "size": [1, 2, 3] * 2}, "has the columns image, kind, size; .* label="),
        ({"image": None}, "has the columns label; expected one of images"),
        ({"image": ["/dev/zero"] * 6}, r"row 1: the path '/dev/zero' leads out of"),
        ({"image": ["../secret.png"] * 6}, r"row 1: the path '\.\./secret.png' leads out of"),
        ({"image": ["missing.png"] * 6}, r"row 1: there is no file 'missing.png'"),
        ({"image": ["a\0b.png"] * 6}, r"row 1: the path .* cannot be followed"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_by_file_and_row(tmp_path: Path, columns: Any, message: str) -> None:
    (tmp_path / "secret.png").write_bytes(_png())
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=message):
        mm.load_data(_write(tmp_path / "in", **columns))


def test_tables_name_their_columns_and_other_classes(tmp_path: Path) -> None:
    folder = _write(tmp_path, label=None, kind=["x", "y"] * 3)
    assert mm.load_data(folder).classes == ("x", "y")  # the only column beside the images
    _write(tmp_path, "test", label=None, kind=["x", "z"] * 3)
    with pytest.raises(ValueError, match=r"test.parquet, row 2: the label 'z' is that of no training sample; .* x, y"):
        mm.load_data(folder)
    _write(tmp_path, "test")
    with pytest.raises(ValueError, match=r"test.parquet has no column kind, as .*; it has image, label"):
        mm.load_data(folder)
    with pytest.raises(ValueError, match="unknown column of .* 'knd'. Did you mean 'kind'"):
        mm.load_data(folder, label="knd")


def test_columns_that_are_not_read_are_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"left out of .*train.parquet: 'size'\."):
        mm.load_data(_write(tmp_path, size=[1, 2] * 3))


def test_links_do_not_lead_out_of_a_table_s_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(_png())
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leads out of"):
        mm.load_data(_write(tmp_path / "in", image=["a.png"] * 6))


CSV = "width,height,kind\n1.5,2,cat\n2.5,3,dog\n3,4,cat\n4,5,dog\n5,6,cat\n"


def test_csv_files_of_numbers(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(CSV)
    with pytest.warns(UserWarning, match="the last column, 'kind', is taken as the label"):
        data = mm.load_data(str(file))
    assert (data.shape, data.classes, len(data.train), len(data.test)) == ((2,), ("cat", "dog"), 4, 1)
    assert isinstance(data.train, Arrays)
    x = data.prepare(data.train.inputs)
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.ones(2), atol=1e-5)
    other = "\ufeff" + CSV.replace(",", ";").replace("kind", "Label")
    file.write_text(other)
    assert mm.load_data(str(file)).classes == ("cat", "dog")
    file.write_text("\n".join(f"{i},{i * 2},{i % 3}" for i in range(30)))
    assert mm.load_data(str(file)).classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="unknown task 'rgression'. Did you mean 'regression'"):
        mm.load_data(str(file), task="rgression")
    with pytest.raises(ValueError, match="label is 'zz'; .* has the columns 0, 1, 2"):
        mm.load_data(f"{file}(label='zz')")
    quantity = mm.load_data(f"{file}(task='regression')")
    assert (quantity.task, quantity.num_outputs) == ("regression", 1)
    result = mm.fit(torch.nn.Linear(2, 1), quantity, recipe=mm.Recipe(1), progress=False)
    assert result.test_loss is not None


def test_whole_numbers_that_are_rounded_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "ids.csv"
    file.write_text("id,size,exact,label\n" + "".join(f"{2**24 + i},{i}.5,{2**30},{i % 2}\n" for i in range(20)))
    notes = [note for note in mm.load_data(str(file)).notes if "rounded" in note]
    assert notes == [
        "'id' has 16777217, which is kept as 16777216: whole numbers beyond 16,777,216 are rounded to float32, so ids "
        "may coincide."
    ]


def test_csv_files_of_images_and_of_parts(tmp_path: Path) -> None:
    for i in range(6):
        _picture(tmp_path / "images" / f"{i}.png", shade=i)
    rows = [f"images/{i}.png,{'ab'[i % 2]}" for i in range(6)]
    (tmp_path / "train.csv").write_text("\n".join(["path,label", *rows]))
    (tmp_path / "test.csv").write_text("\n".join(["path,label", *rows[:2]]))
    data = mm.load_data(str(tmp_path / "train.csv"))
    assert (data.classes, data.shape, len(data.train) + len(data.test)) == (("a", "b"), (3, 8, 9), 6)
    (tmp_path / "images").rename(tmp_path / ".images")
    for name in ("train", "test"):
        file = tmp_path / f"{name}.csv"
        file.write_text(file.read_text().replace("images/", ".images/"))
    whole = mm.load_data(str(tmp_path))
    assert (len(whole.train), len(whole.test)) == (6, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.csv is empty"),
        ("a,label\n", "has a header and no rows"),
        ("a,label\n1,x\n2\n3,y\n", r"x.csv, row 2 has 1 values; expected 2"),
        ("a,label\n1,x\nb,y\n", r"x.csv, row 2: column 'a' has 'b'; expected a finite number"),
        ("a,label\n1,x\n,y\n", r"x.csv, row 2: 'a' is missing"),
        ("a,label\n1,x\nnan,y\n", r"x.csv, row 2: column 'a' has 'nan'"),
        ("a,label\n1,x\n1e39,y\n", r"x.csv, row 2: column 'a' has '1e39'; expected a finite number of float32"),
        ("a,label\n1,x\n2,\n", r"x.csv, row 2: the label is missing"),
        ("a,label\n1,0.5\n2,inf\n", r"x.csv, row 2: the label is inf; expected a finite number"),
        ("a,label\n1,0.5\n2,1e39\n", r"x.csv, row 2: the label is 1e\+39; expected a finite number"),
        ("a,label\n1,x\n2,x\n", r"x.csv, row 1 and all others have the label 'x'; expected two classes"),
        ("a,label\n1,10\n2,11\n3,14\n", "each of the 3 samples has a class of its own"),
        ("label\nx\ny\n", "no column beside the label"),
        ("a,label\n1,x\0\n", "is no text of a CSV file"),
        ('a,label\n1,"x\n', "is no CSV file that can be read"),
        ("path,label\n/etc/passwd.png,a\n../b.png,b\n../c.png,b\n", "leads out of"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        mm.load_data(str(tmp_path / "x.csv"))


def test_files_of_numpy(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 4
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = mm.load_data(str(tmp_path / "a.npz"))
    assert (data.shape, len(data.classes), len(data.train), len(data.test)) == ((3,), 4, 16, 4)
    images = np.zeros((20, 8, 9, 3), np.uint8)
    np.savez_compressed(tmp_path / "b.npz", x_train=images, y_train=y, x_test=images[:5], y_test=y[:5])
    assert mm.load_data(str(tmp_path / "b.npz")).shape == (3, 8, 9)
    for name, array in (("x", x), ("y", x[:, :2].astype(np.float32))):
        np.save(tmp_path / f"{name}.npy", array)
    for name in ("x.npy", ""):
        assert mm.load_data(str(tmp_path / name)).num_outputs == 2
    np.savez(tmp_path / "c.npz", y=y)
    with pytest.raises(ValueError, match=r"has the arrays y \(20,\); expected x and y"):
        mm.load_data(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "d.npz", x=np.array([{}], dtype=object), y=y[:1])
    with pytest.raises(ValueError, match="it holds object, no numbers"):
        mm.load_data(str(tmp_path / "d.npz"))
    dense = np.stack([y, y], 1)
    np.savez(tmp_path / "e.npz", x=x, y=np.where(dense == 0, -100, dense))
    assert mm.load_data(str(tmp_path / "e.npz")).num_outputs == 4
    for wrong, message in (
        (dense - 5, "a target is the class -5"),
        (np.where(dense == 1, np.inf, dense), "train have a value that is not finite"),
    ):
        np.savez(tmp_path / "f.npz", x=x, y=wrong)
        with pytest.raises(ValueError, match=message):
            mm.load_data(str(tmp_path / "f.npz"))


@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.parquet", "y.txt", "folder/x.csv"])
def test_files_that_are_not_there_or_not_read_are_named(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "y.txt":
        Path(name).write_text("")
        with pytest.raises(ValueError, match=r"y is empty; expected some text"):
            mm.load_data(name)
        return
    with pytest.raises(FileNotFoundError if "/" not in name else ValueError, match="no file or folder|cannot load"):
        mm.load_data(name)


@pytest.fixture
def _bounded() -> Iterator[None]:
    """What is read takes less than two seconds and 500 MB."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - began < 4  # of which half is for a busy machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def _png_bomb(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.usefixtures("_bounded")
@pytest.mark.parametrize("side", [9_500, 30_000, 100_000, 2**31 - 1])
def test_images_that_unpack_to_gigabytes_are_refused(tmp_path: Path, side: int) -> None:
    for kind in "ab":
        _picture(tmp_path / kind / "0.png")
        (tmp_path / kind / "1.png").write_bytes(_png_bomb(side))
    with pytest.raises(ValueError, match="1.png (unpacks to .* pixels|is no readable image)"):
        mm.load_data(str(tmp_path))


def test_tables_that_unpack_to_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimand.data.files.parquet._MUCH", 2**24)
    rows = pa.table({"image": [bytes(5_000_000)] * 4, "label": [0, 1] * 2})
    pq.write_table(rows, tmp_path / "train.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(ValueError, match=r"train.parquet unpacks 0.02 GB at once from"):
        mm.load_data(str(tmp_path))


@pytest.mark.usefixtures("_bounded")
def test_a_dictionary_of_one_large_value_for_all_rows_is_refused(tmp_path: Path) -> None:
    large = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array([bytes(20_000_000)]))
    pq.write_table(pa.table({"image": large, "label": [0, 1] * 2500}), tmp_path / "train.parquet", compression="zstd")
    with pytest.raises(ValueError, match=r"train.parquet"):
        mm.load_data(str(tmp_path))


def test_archives_that_unpack_to_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimand.data.files.numpy_files._MUCH", 2**24)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    claim = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000, 1000), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header + claim)
    with pytest.raises(ValueError, match="no room for the shape"):
        mm.load_data(str(tmp_path / "a.npz"))
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        for _ in range(3):
            file.write(bytes(10_000_000))
    with pytest.raises(ValueError, match="unpacks x.npy to 0.03 GB"):
        mm.load_data(str(tmp_path / "b.npz"))


def _idx_files(place: Path) -> Path:
    for part in ("train", "t10k"):
        images = bytes([0, 0, 8, 3]) + struct.pack(">III", 4, 28, 28) + bytes(4 * 784)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 4) + bytes(range(4))
        (place / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (place / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return place


@pytest.mark.usefixtures("_bounded")
@pytest.mark.parametrize("sizes", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (2**22, 28, 28), (0, 28, 28)])
def test_idx_files_whose_sizes_lie_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    _idx_files(tmp_path)
    lie = bytes([0, 0, 8, 3]) + struct.pack(">III", *sizes) + bytes(3_000_000)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(lie))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz is no whole IDX file|0 images with 4 labels"):
        mm.load_data("fashion_mnist", data_folder=str(tmp_path))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_byte_of_a_packed_file_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = _idx_files(tmp_path_factory.mktemp("idx"))
    name = data.draw(st.sampled_from(sorted(path.name for path in place.iterdir())))
    content = bytearray((place / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (place / name).write_bytes(content)
    whole, error = _data_or_error("fashion_mnist", data_folder=str(place))
    if whole is None:
        assert name.split("-")[0] in error
    else:  # there are bits in a packed file that say nothing of its content
        for part in (whole.train, whole.test):
            x, y = next(part.batches(4))
            assert not x.any()
            assert y.tolist() == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), change=st.integers(1, 255), kind=st.sampled_from(["parquet", "npz", "csv"]))
def test_a_changed_byte_gives_a_clear_error_or_data(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int, kind: str
) -> None:
    file = tmp_path_factory.mktemp("flip") / f"train.{kind}"
    if kind == "parquet":
        _write(file.parent)
    elif kind == "npz":
        np.savez_compressed(file, x=np.random.default_rng(0).normal(size=(9, 2)), y=np.arange(9) % 3)
    else:
        file.write_text(CSV)
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= change
    file.write_bytes(content)
    data, error = _data_or_error(str(file))
    if data is None:
        assert "train." in error
    else:
        assert len(data.train) + len(data.test) in {"parquet": {6}, "npz": {9}, "csv": {4, 5, 6}}[kind]


def _data_or_error(name: str, **options: Any) -> tuple[mm.Data | None, str]:
    try:
        return mm.load_data(name, **options), ""
    except ValueError as error:
        return None, str(error)


def test_data_of_the_hub_are_read_from_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def split(names: list[str] | None, cells: list[Any]) -> Any:
        label = datasets.ClassLabel(names=names) if names else datasets.Value("string")
        labels: list[Any] = [i % 2 for i in range(len(cells))] if names else ["no", "yes"] * (len(cells) // 2)
        features = datasets.Features({"picture": datasets.Image(), "kind": label})
        return datasets.Dataset.from_dict({"picture": cells, "kind": labels}, features=features)

    cells = [{"bytes": _png(i), "path": f"{i}.png"} for i in range(10)]
    for names in (["cat", "dog"], None):
        splits = datasets.DatasetDict({"Train": split(names, cells), "validation": split(names, cells[:4])})
        monkeypatch.setattr(datasets, "load_dataset", lambda repository, splits=splits: splits)
        data = mm.load_data("someone/pictures", image_size=4)
        assert (len(data.train), len(data.test), data.classes) == (10, 4, tuple(names or ["no", "yes"]))
        assert data.shape == (1, 4, 4)
    outside = [{"bytes": None, "path": str(_picture(tmp_path / "secret.png"))}] * 4
    monkeypatch.setattr(datasets, "load_dataset", lambda repository: {"train": split(["a", "b"], outside)})
    with pytest.raises(ValueError, match="train row [1-4]: the path .* leads out of"):
        mm.load_data("someone/pictures")
