"""Texts that people have, as data: files, folders, tables; parts that never overlap; and what is no text."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings, strategies as st

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.data.registry import DataNote
from minimand.data.text import subwords
from minimand.data.text.documents import split_parts
from minimand.data.text.kept import keep_tokenizer
from minimand.data.text.tokenizers import Characters
from minimand.data.text.windows import Windows

VERSE = "In the beginning was the word.\n"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for token files."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "minimand" / "tokens"


def part(data: mm.Data, name: str) -> Windows:
    samples = getattr(data, name)
    assert isinstance(samples, Windows)
    return samples


def text_of(data: mm.Data, name: str) -> str:
    assert data.text is not None
    return data.text.tokenizer.decode(part(data, name).tokens.tolist())


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("abc", min_size=1, max_size=40), min_size=2, max_size=15), share=st.floats(0.05, 0.6))
def test_no_character_is_in_two_parts(texts: list[str], share: float) -> None:
    marked = [f"{i}:{text}" for i, text in enumerate(texts)]
    by_position, _ = split_parts({"": marked}, "position", share)
    assert "".join(by_position["train"] + by_position["test"]) == "".join(marked)
    assert abs(len("".join(by_position["test"])) - share * len("".join(marked))) <= 1
    by_documents, _ = split_parts({"": marked}, "documents", share)
    assert sorted(by_documents["train"] + by_documents["test"]) == sorted(marked)
    assert by_documents["train"]
    assert by_documents["test"]
    assert split_parts({"": marked}, "documents", share) == split_parts({"": marked}, "documents", share)


@pytest.mark.parametrize("tokens", ["character", "byte", "bpe(260)"])
def test_a_file_becomes_windows_of_tokens_and_its_end_tests(tmp_path: Path, tokens: str) -> None:
    text = "".join(f"{i} {VERSE}" for i in range(200))
    (tmp_path / "word.txt").write_text(text)
    data = mm.load_data(str(tmp_path / "word.txt"), tokens=tokens, context=16)
    assert data.text is not None
    assert text_of(data, "train") + text_of(data, "test") == text
    assert text_of(data, "train") == text[: int(0.9 * len(text))]
    x = data.example()
    assert (x.shape, x.dtype) == ((4, 16), torch.int64)
    assert data.num_outputs == len(data.classes) == len(data.text.tokenizer.symbols)
    assert mm.load_data(**data.loaded).num_outputs == data.num_outputs
    assert str(data.num_outputs) in str(data)
    lengths = len(text_of(data, "test").encode()), len(part(data, "test").tokens)
    assert data.text.bytes_per_token == pytest.approx(lengths[0] / lengths[1])


def test_a_folder_of_files_is_documents_each_with_its_end(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02}.md").write_text(f"chapter {i}\n{VERSE}")
    (tmp_path / "cover.md").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(DataNote, match="left out, as no text in UTF-8: cover.md"):
        data = mm.load_data(str(tmp_path))
    assert data.source.endswith("of 12 documents set aside to test)")
    documents = [d for name in ("train", "test") for d in text_of(data, name).split("<|endoftext|>") if d]
    assert sorted(documents) == sorted(f"chapter {i}\n{VERSE}" for i in range(12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataNote)
        apart = mm.load_data(f"{tmp_path}(across_documents=False)", context=200)
    x, y = next(iter(part(apart, "test").batches(4)))
    lengths = [len(f"chapter {i}\n{VERSE}") for i in range(12)]
    assert (y != -100).sum(1).tolist() == [n for n in (y != -100).sum(1).tolist() if n in lengths]
    assert x.shape[1] == 200


def test_a_tokenizer_without_an_end_of_documents_is_told(tmp_path: Path) -> None:
    keep_tokenizer(Characters("".join(sorted({*VERSE, *"0123456789"}))), tmp_path)
    (tmp_path / "verses").mkdir()
    for i in range(12):
        (tmp_path / "verses" / f"{i}.txt").write_text(f"{i} {VERSE}")
    with pytest.warns(DataNote, match="character has no token for the end of a document: one follows the other"):
        data = mm.load_data(str(tmp_path / "verses"), tokens=str(tmp_path))
    assert "<|endoftext|>" not in text_of(data, "train")


def test_parts_that_a_folder_has_stay_as_they_are(tmp_path: Path) -> None:
    for name, text in (("train", "abc" * 50), ("val", "cab" * 20), ("test", "bca" * 20), ("notes", "zzz")):
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.warns(DataNote, match="neither train, test nor val: 1 files"):
        data = mm.load_data(str(tmp_path), context=8)
    assert text_of(data, "train") == "abc" * 50 + "<|endoftext|>"
    assert text_of(data, "validation") == "cab" * 20 + "<|endoftext|>"
    assert text_of(data, "test") == "bca" * 20 + "<|endoftext|>"


def test_a_text_column_of_parquet_is_documents(tmp_path: Path) -> None:
    texts = [f"row {i}: {VERSE}" for i in range(30)]
    pq.write_table(pa.table({"id": [str(i) for i in range(30)], "text": texts}), tmp_path / "rows.parquet")
    data = mm.load_data(str(tmp_path / "rows.parquet"), tokens="byte")
    everything = text_of(data, "train") + text_of(data, "test")
    assert sorted(everything.split("<|endoftext|>")[:-1]) == sorted(texts)
    with pytest.raises(MinimandError, match="column is 'title', but .* has id, text"):
        mm.load_data(str(tmp_path), tokens="byte", column="title")
    with pytest.raises(MinimandError, match="A column of text is read with tokens='character'"):
        mm.load_data(str(tmp_path / "rows.parquet"))


def test_named_texts_are_those_of_the_published_sizes(tmp_path: Path) -> None:
    data = mm.load_data("python_stdlib")
    again = mm.load_data("python_stdlib")
    assert np.array_equal(part(data, "train").tokens, part(again, "train").tokens)
    assert "Python 3" in data.source
    assert "bytes" in data.source
    assert (len(data.train), len(data.test), data.shape) == (4096, 512, (64,))
    assert "import os\n" in text_of(data, "train")
    (tmp_path / "input.txt").write_text(VERSE * 100)
    small = mm.load_data("tinyshakespeare", data_folder=str(tmp_path), context=32)
    assert small.notes == ("the text has 3,100 characters; that of published numbers has 1,115,394.",)
    (tmp_path / "bible.txt").write_text("Ge1:1 In the beginning\n1Jo2:1 My little children\n" * 20)
    assert text_of(mm.load_data("bible", data_folder=str(tmp_path)), "train").startswith(
        "In the beginning\nMy little children\n"
    )


def test_a_token_file_is_made_once_and_a_damaged_one_is_made_anew(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "word.txt").write_text(VERSE * 50)
    first = mm.load_data(str(tmp_path / "word.txt"))
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    second = mm.load_data(str(tmp_path / "word.txt"), context=8)
    assert isinstance(part(second, "train").tokens, np.memmap)
    assert np.array_equal(part(first, "train").tokens, part(second, "train").tokens)
    assert file.stat().st_mtime_ns == written
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert text_of(mm.load_data(str(tmp_path / "word.txt")), "train") == text_of(first, "train")
    assert file.read_bytes() != bytes(content)
    (tmp_path / "word.txt").write_text(VERSE * 51)
    assert part(mm.load_data(str(tmp_path / "word.txt")), "train").key != part(first, "train").key


@pytest.mark.parametrize("home", ["/proc/nowhere", "relative"])
def test_without_a_cache_the_tokens_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    (tmp_path / "word.txt").write_text(VERSE * 50)
    cached = mm.load_data(str(tmp_path / "word.txt"))
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    data = mm.load_data(str(tmp_path / "word.txt"))
    assert not isinstance(part(data, "train").tokens, np.memmap)
    assert np.array_equal(part(data, "train").tokens, part(cached, "train").tokens)
    assert not Path("relative").exists()


def test_a_tokenizer_of_a_folder_is_used_and_one_that_loses_text_is_told(tmp_path: Path) -> None:
    trained, _ = subwords.trained(300, [VERSE * 3 + "".join(dir(str))], False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tokenizer.json").write_text(trained.json)
    (tmp_path / "word.txt").write_text(VERSE * 50)
    data = mm.load_data(str(tmp_path / "word.txt"), tokens=str(tmp_path / "mine"))
    assert text_of(data, "train") + text_of(data, "test") == VERSE * 50
    lowercase = trained.json.replace('"normalizer":null', '"normalizer":{"type":"Lowercase"}')
    (tmp_path / "mine" / "tokenizer.json").write_text(lowercase)
    with pytest.warns(DataNote, match="does not keep the text as it is"):
        mm.load_data(str(tmp_path / "word.txt"), tokens=str(tmp_path / "mine"))


BAD_FILES: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty": (b"", {}, "is empty; expected some text"),
    "one letter": (b"a", {}, "has 0 tokens; expected at least 2"),
    "a program": (b"\x7fELF\x00\x00", {}, "is no text in UTF-8: it has a zero byte at 4"),
    "Latin-1": ("déjà vu".encode("latin1"), {}, "has the byte 0xe9 at 1"),
    "UTF-16": ("text".encode("utf-16"), {}, "is no text in UTF-8"),
    "a long context": (VERSE.encode(), {"context": 500}, "context is 500, and the training part of bad has 27 tokens"),
    "no context": (VERSE.encode(), {"context": 0}, "context is 0; expected an integer, at least 1"),
    "no windows": (VERSE.encode(), {"windows": 0}, "windows is 0; expected an integer, at least 1"),
    "an unknown split": (VERSE.encode(), {"split": "random"}, "unknown split 'random'"),
    "one document": (VERSE.encode(), {"split": "documents"}, "there is one document"),
    "unknown tokens": (VERSE.encode(), {"tokens": "charcter"}, "Did you mean 'character'"),
    "few merges": (VERSE.encode(), {"tokens": "bpe(12)"}, "the vocabulary of bpe is 12; expected an integer, 257"),
    "no tokens": (VERSE.encode(), {"tokens": ""}, "tokens is ''; expected 'character'"),
    "tokens that are a number": (VERSE.encode(), {"tokens": 512}, "tokens is 512; expected 'character'"),
    "an unknown option": (VERSE.encode(), {"context": 8, "block": 3}, "unknown argument of text_data 'block'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_no_text_or_asks_for_what_cannot_be_is_told(tmp_path: Path, case: str) -> None:
    content, options, message = BAD_FILES[case]
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(MinimandError, match=message):
        mm.load_data(str(tmp_path / "bad.txt"), **options)


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text(VERSE * 9)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme").write_text("nothing")
    with pytest.raises(MinimandError, match=r"has no tokenizer that can be read: it has readme"):
        mm.load_data(str(tmp_path / "word.txt"), tokens=str(tmp_path / "none"))
    (tmp_path / "none" / "tokenizer.json").write_text("{}")
    with pytest.raises(MinimandError, match="is no tokenizer that can be read"):
        mm.load_data(str(tmp_path / "word.txt"), tokens=str(tmp_path / "none"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(b"\0")
    with pytest.raises(MinimandError, match="has 1 files that are no text in UTF-8; expected texts"):
        mm.load_data(str(tmp_path / "texts"))
