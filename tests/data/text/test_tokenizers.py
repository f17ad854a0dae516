"""Text to token ids and back, whatever the text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minimand._support.errors import MinimandError
from minimand.data.text import subwords
from minimand.data.text.kept import keep_tokenizer, read_tokenizer, tokenizer_of
from minimand.data.text.tokenizers import (
    END_OF_TEXT,
    Bytes,
    Characters,
    Tokenizer,
    alphabet_of,
    digest_of,
    size_of,
)

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)
SAMPLE = " ".join(sorted(str.__dict__) + sorted(dict.__dict__) + sorted(set.__dict__)) * 3


def tokenizers_of(text: str, has_separator: bool) -> list[Tokenizer]:
    merged, _ = subwords.trained(300, [SAMPLE + text], has_separator)
    return [Characters(alphabet_of([text]), has_separator), Bytes(has_separator), merged]


@settings(max_examples=25, deadline=None)
@given(text=TEXTS, has_separator=st.booleans())
def test_every_text_comes_back_and_a_tokenizer_from_its_config(text: str, has_separator: bool) -> None:
    for tokenizer in tokenizers_of(text, has_separator):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int64
        assert 0 <= ids.min() <= ids.max() < size_of(tokenizer)
        assert tokenizer.decode(ids.tolist()) == text
        again = tokenizer_of(json.loads(json.dumps(tokenizer.config())))
        assert digest_of(again) == digest_of(tokenizer)
        assert again.encode(text).tolist() == ids.tolist()
        assert (tokenizer.separator is not None) == has_separator
        if tokenizer.separator is not None:
            assert tokenizer.separator not in ids
            assert tokenizer.decode([*ids, tokenizer.separator]) == text + END_OF_TEXT


def test_tokenizers_that_differ_have_other_digests() -> None:
    kinds = [t for has_separator in (False, True) for t in tokenizers_of("some text", has_separator)]
    assert len({digest_of(t) for t in kinds}) == len(kinds)


def test_a_character_without_a_token_is_named_with_those_that_have_one() -> None:
    with pytest.raises(MinimandError, match=r"has the character 'é', which the 3 known ones do not have: 'abc'"):
        Characters("abc").encode("abéc")


@pytest.mark.parametrize("token", [-1, 3, 10**6])
def test_a_token_id_out_of_range_is_an_error(token: int) -> None:
    with pytest.raises(MinimandError, match=f"token id {token} is not one of character; expected 0 to 2"):
        Characters("abc").decode([0, token])


def test_merges_are_learned_in_the_same_way_twice_and_make_texts_shorter() -> None:
    first, notes = subwords.trained(300, [SAMPLE], False)
    second, _ = subwords.trained(300, [SAMPLE], False)
    assert first.json == second.json
    assert not notes
    assert len(first.encode(SAMPLE)) < 0.6 * len(SAMPLE)
    _, notes = subwords.trained(9000, [SAMPLE], False)
    assert "of the 9,000 of bpe" in notes[0]


def test_a_tokenizer_of_transformers_is_read_from_its_folder(tmp_path: Path) -> None:
    trained, _ = subwords.trained(300, [SAMPLE], False)
    (tmp_path / "tokenizer.json").write_text(trained.json)
    read = subwords.from_folder(tmp_path, False)
    assert read.encode(SAMPLE).tolist() == trained.encode(SAMPLE).tolist()
    assert subwords.from_folder(tmp_path, True).separator == 300


@pytest.mark.soak
def test_older_files_of_a_tokenizer_are_converted(tmp_path: Path) -> None:
    trained, _ = subwords.trained(300, [SAMPLE], False)
    model = json.loads(trained.json)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    read = subwords.from_folder(tmp_path, False)
    assert read.decode(read.encode(SAMPLE).tolist()) == SAMPLE


def test_a_kept_tokenizer_is_the_same_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    for tokenizer in tokenizers_of("some text", True):
        keep_tokenizer(tokenizer, tmp_path)
        assert digest_of(read_tokenizer(tmp_path)) == digest_of(tokenizer)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace("separator", "separated"))
    with pytest.raises(MinimandError, match="checksum is not that of its content"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("config", [{}, {"kind": "word"}, {"kind": "character", "alphabet": ""}, [], None])
def test_values_that_describe_no_tokenizer_are_refused(config: object) -> None:
    with pytest.raises(MinimandError, match="describes no tokenizer"):
        tokenizer_of(config)
