"""The kinds of files that the library reads: a good one of each, what it says, and what an independent reader says."""

import contextlib
import csv
import gzip
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml


@dataclass(frozen=True)
class Kind:
    """A kind of files. `make` writes a good one and what goes with it into a folder; `file` is the one to damage."""

    file: str
    """A pattern that one file meets."""
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    """What the folder says: equal values for equal answers. Raises MinimandError for a file that cannot be used."""
    independent: Callable[[Path], Any] | None = None
    """What the folder says to a reader that shares no code with `read`, for formats without a checksum, whose damaged
    files may be good ones with other content. Raises for what is no good file; None where it cannot tell."""
    without: bool = False
    """Whether another file may stand in for a damaged one, if that is said."""
    share: float = 1.0
    """The share of damaged files that it gets: less where reading takes long."""


def digest(*values: Any) -> str:
    """A short stand-in for tensors, arrays and plain values."""
    sha = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.contiguous().numpy()
        sha.update(
            value.tobytes() + str(value.shape).encode() if isinstance(value, np.ndarray) else repr(value).encode()
        )
    return sha.hexdigest()[:16]


def command(*words: str) -> str:
    """The output of a command of minimand; raises MinimandError with its message if it ends with the status 2."""
    from minimand._support.errors import MinimandError
    from minimand.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(words))
    except SystemExit as end:
        if end.code == 2 and err.getvalue().startswith("minimand: "):
            raise MinimandError(err.getvalue().removeprefix("minimand: ").removesuffix("\n")) from None
        raise
    return out.getvalue()


_MODEL = 'mlp(depth=2,width=8,activation="sign")'


def _train(folder: Path) -> None:
    words = ["--data", "digits", "--quiet", "--batch-size", "512", "--epochs", "2", "--checkpoint-every", "0"]
    command("train", *words, "--model", _MODEL, "--weight-bits", "1", "--run", str(folder / "run"))


def _weights(folder: Path) -> Any:
    from minimand.experiments.reopen import load_run

    opened = load_run(folder / "run")
    return ("told " if opened.notes else "") + digest(*opened.model.state_dict().values(), opened.step)


def _evaluation(folder: Path) -> Any:
    out = command("evaluate", str(folder / "run"))
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    return ("told " if notes else "") + "\n".join(out.splitlines()[-12:])


def _pack(folder: Path) -> None:
    _train(folder)
    command("pack", str(folder / "run"), "--output", str(folder / "packed.mm"))


def _packed_outputs(folder: Path) -> Any:
    import minimand as mm

    packed = mm.load_packed(folder / "packed.mm")
    with torch.no_grad():
        return digest(packed(mm.load_data("digits").example()), str(packed))


def _study(folder: Path) -> None:
    command("study", "run", "rings", "--scale", "smoke", "--run", str(folder / "study"), "--quiet")


def _table(folder: Path) -> Any:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = command("study", "table", "rings", "--scale", "smoke", "--run", str(folder / "study"))
    return f"told {table}" if said else table


def _idx(compress: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        random = np.random.default_rng(0)
        for part, n in (("train", 20), ("t10k", 10)):
            images = b"\0\0\x08\x03" + np.array([n, 5, 4], ">u4").tobytes() + random.bytes(n * 20)
            labels = b"\0\0\x08\x01" + np.array([n], ">u4").tobytes() + bytes(i % 10 for i in range(n))
            for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
                if compress:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
                else:
                    (folder / name).write_bytes(content)

    return make


def _samples(folder: Path) -> Any:
    """The samples of data in a folder: each image with its class, in both parts."""
    return _of(_load(folder))


def _load(folder: Path) -> Any:
    import minimand as mm

    is_idx = any(folder.glob("*ubyte*"))
    return mm.load_data("fashion_mnist", data_folder=str(folder)) if is_idx else mm.load_data(str(folder))


def _of(data: Any) -> Any:
    parts = []
    for samples in (data.train, data.test):
        x, y = next(iter(samples.batches(len(samples))))
        parts.append(sorted((digest(image), _name(data.classes, label)) for image, label in zip(x, y, strict=True)))
    return parts


def _name(classes: Sequence[str], label: Any) -> str:
    return classes[int(label)] if 0 <= int(label) < len(classes) else f"class {int(label)}"


def _independent_idx(folder: Path) -> Any:
    from minimand.data.sets.fashion_mnist import _CLASSES

    parts = []
    for part in ("train", "t10k"):
        arrays = []
        for name, dimensions in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
            packed = folder / f"{name}.gz"
            content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
            assert content[:4] == bytes([0, 0, 8, dimensions])
            shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
            arrays.append(np.frombuffer(content, np.uint8, -1, 4 + 4 * dimensions).reshape(shape))
        images, labels = arrays
        assert len(images) == len(labels) > 0
        assert images.size
        parts.append(sorted((digest(image[None]), _name(_CLASSES, y)) for image, y in zip(images, labels, strict=True)))
    return parts


_SIDE = 8


def _pictures(count: int) -> list[tuple[str, Any]]:
    """Small colour pictures of two classes."""
    from PIL import Image

    random = np.random.default_rng(1)
    pixels = [random.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8) for _ in range(count)]
    return [(("cat", "dog")[i % 2], Image.fromarray(array)) for i, array in enumerate(pixels)]


def _image_folder(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for part, n in (("train", 8), ("test", 4)):
            for i, (name, picture) in enumerate(_pictures(n)):
                (folder / "images" / part / name).mkdir(parents=True, exist_ok=True)
                picture.save(folder / "images" / part / name / f"{i}.{suffix}")

    return make


def _images(folder: Path) -> Any:
    import minimand as mm

    return _of(mm.load_data(str(folder / "images")))


def _independent_images(folder: Path) -> Any:
    parts = []
    for part in ("train", "test"):
        files = sorted((folder / "images" / part).rglob("*.*"))
        parts.append([(path.parent.name, path.read_bytes()) for path in files])
    return _decoded(parts)


def _decoded(parts: list[list[tuple[str, bytes]]]) -> Any:
    """What pictures with their classes say; None where one has another size or no colour, which changes all."""
    from PIL import Image, ImageOps

    decoded = []
    for part in parts:
        decoded.append([])
        for name, content in part:
            picture = Image.open(io.BytesIO(content))
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.size != (_SIDE, _SIDE) or picture.mode != "RGB":
                return None
            decoded[-1].append((digest(np.asarray(picture).transpose(2, 0, 1).copy()), name))
    return [sorted(part) for part in decoded]


def _parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (folder / "table").mkdir()
    for part, n in (("train", 8), ("test", 4)):
        rows = []
        for name, picture in _pictures(n):
            file = io.BytesIO()
            picture.save(file, "png")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "label": ("cat", "dog").index(name)})
        image = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        table = pyarrow.Table.from_pylist(rows, pyarrow.schema({"image": image, "label": pyarrow.int64()}))
        kinds = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
        about = {"huggingface": json.dumps({"info": {"features": kinds}})}
        pyarrow.parquet.write_table(table.replace_schema_metadata(about), folder / "table" / f"{part}.parquet")


def _table_of_images(folder: Path) -> Any:
    import minimand as mm

    return _of(mm.load_data(str(folder / "table")))


def _independent_parquet(folder: Path) -> Any:
    import pyarrow.parquet

    parts = []
    for part in ("train", "test"):
        rows = pyarrow.parquet.read_table(folder / "table" / f"{part}.parquet").to_pylist()
        parts.append([(_name(("cat", "dog"), row["label"]), row["image"]["bytes"]) for row in rows])
    return _decoded(parts)


def _csv(folder: Path) -> None:
    random = np.random.default_rng(2)
    rows = [f"{a:.4f},{b:.4f},{('cat', 'dog')[i % 2]}" for i, (a, b) in enumerate(random.normal(size=(20, 2)))]
    (folder / "table.csv").write_text("\n".join(["width,height,label", *rows, ""]))


def _numpy(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "arrays").mkdir()
        x = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)
        y = np.arange(20) % 2
        if suffix == "npz":
            np.savez(folder / "arrays.npz", x=x, y=y)
        else:
            np.save(folder / "arrays" / "x.npy", x)
            np.save(folder / "arrays" / "y.npy", y)

    return make


def _rows(name: str) -> Callable[[Path], Any]:
    """A reader of vectors with their classes, of whatever part they are."""

    def read(folder: Path) -> Any:
        import minimand as mm

        data = mm.load_data(str(folder / name))
        rows = []
        for samples in (data.train, data.test):
            x, y = next(iter(samples.batches(len(samples))))
            rows += [[repr(v), _label(data, label)] for v, label in zip(x.double().tolist(), y, strict=True)]
        return sorted(rows)

    return read


def _label(data: Any, label: torch.Tensor) -> str:
    return _name(data.classes, label) if data.task == "classification" else repr(label.tolist())


def _independent_csv(folder: Path) -> Any:
    lines = [line for line in csv.reader((folder / "table.csv").read_text(encoding="utf-8").splitlines()) if line]
    if lines[0] != ["width", "height", "label"]:
        return None
    return sorted([repr([float(np.float32(a)), float(np.float32(b))]), label] for a, b, label in lines[1:])


def _independent_numpy(folder: Path) -> Any:
    x, y = (np.load(folder / "arrays" / f"{name}.npy", allow_pickle=False) for name in "xy")
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    assert len(x) == len(y)
    return sorted([repr(row.astype(np.float64).tolist()), str(label)] for row, label in zip(x, y, strict=True))


def _options(folder: Path) -> None:
    lines = ("data: digits", "model: mlp(depth=2,width=4)", "epochs: 1", "batch_size: 512", "seed: 3", "")
    (folder / "options.yaml").write_text("\n".join(lines))


def _with_options(folder: Path) -> Any:
    """What the command line makes of a file of options, short of training."""
    from minimand.cli.commands.train import Train
    from minimand.cli.configuration import with_config

    command = vars(with_config(Train(config=str(folder / "options.yaml")))[0])
    usual = vars(Train())
    return {key: repr(value) for key, value in command.items() if key != "config" and value != usual[key]}


def _independent_options(folder: Path) -> Any:
    options = yaml.safe_load((folder / "options.yaml").read_text())
    return {key.replace("-", "_"): repr(value) for key, value in options.items() if value is not None}


def kinds() -> dict[str, Kind]:
    """Every kind by its name."""
    newest, older = "run/checkpoints/*4.safetensors", "run/checkpoints/*3.safetensors"
    idx = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    return {
        "checkpoint": Kind(newest, _train, _weights, without=True, share=0.2),
        "checkpoint, evaluated": Kind(newest, _train, _evaluation, without=True, share=0.05),
        "older checkpoint": Kind(older, _train, _weights, share=0.1),
        "configuration of a run": Kind("run/config.yaml", _train, _weights, without=True, share=0.2),
        "packed model": Kind("packed.mm", _pack, _packed_outputs),
        "results of a study": Kind("study/results.json", _study, _table, without=True, share=0.3),
        "IDX images": Kind(idx[0], _idx(False), _samples, _independent_idx),
        "IDX labels": Kind(idx[1], _idx(False), _samples, _independent_idx),
        "compressed IDX": Kind(f"{idx[0]}.gz", _idx(True), _samples),
        "PNG": Kind("images/train/cat/0.png", _image_folder("png"), _images, _independent_images, share=0.4),
        "JPEG": Kind("images/train/cat/0.jpg", _image_folder("jpg"), _images, _independent_images, share=0.4),
        "CSV": Kind("table.csv", _csv, _rows("table.csv"), _independent_csv),
        ".npy": Kind("arrays/x.npy", _numpy("npy"), _rows("arrays"), _independent_numpy),
        ".npz": Kind("arrays.npz", _numpy("npz"), _rows("arrays.npz")),
        "options": Kind("options.yaml", _options, _with_options, _independent_options),
        "Parquet": Kind("table/train.parquet", _parquet, _table_of_images, _independent_parquet),
    }
