"""Sealed files: they say what they are, in which format, and carry a checksum of all else in them.

The checksum has a fixed place at the beginning: of a JSON object the first value, of YAML the first line, of
safetensors the first entry of the header. So the files stay what they are to every other reader.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .errors import MinimandError

_DIGITS = 32
_JSON, _YAML, _TENSORS = b'{"checksum": "', b"checksum: ", b'{"__metadata__":{"checksum":"'
_HEADER_LIMIT = 2**24


class SealError(MinimandError):
    """A file that is cut short, damaged, changed by hand, of another kind or of another version."""


def sealed_json(body: str) -> str:
    """The text of a JSON object with its checksum."""
    return _sealed_text(_JSON, f'", {body[1:]}')


def sealed_yaml(body: str) -> str:
    """The text of a YAML mapping with its checksum."""
    return _sealed_text(_YAML, f"\n{body}")


def read_sealed_text(path: Path, limit: int) -> str:
    """The text of a sealed JSON or YAML file of at most `limit` bytes; raises SealError, or OSError."""
    with open_plain(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SealError(f"{path} has more than {limit:,} bytes, which minimand never writes there.")
    head = _JSON if content.startswith(_JSON) else _YAML
    end = len(head) + _DIGITS
    if not content.startswith(head):
        raise SealError(f"{path} does not begin with a checksum: minimand did not write it, or it was cut or changed.")
    if content[len(head) : end] != _checksum([head, content[end:]]):
        raise SealError(f"{path} is damaged or was changed by hand: its checksum is not that of its content.")
    return content.decode()


def sealed_tensors(kind: str, form: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Any]:
    """The parts, as bytes, of a sealed safetensors file of a kind, in the format of a number."""
    content = memoryview(save(dict(tensors)))
    start = 8 + int.from_bytes(content[:8], "little")
    marks = {"checksum": "0" * _DIGITS, "kind": kind, "format": str(form)}
    marks = {**marks, **metadata, **marks}
    # The metadata come first, and the checksum first of them; a header ends at a multiple of 8 bytes.
    header = json.dumps({"__metadata__": marks, **json.loads(bytes(content[8:start]))}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _HEADER_LIMIT:
        raise MinimandError(f"the header of a {kind} has {len(header):,} bytes; expected at most {_HEADER_LIMIT:,}.")
    head = len(header).to_bytes(8, "little") + _TENSORS
    tail = header[len(_TENSORS) + _DIGITS :]
    return [head, _checksum([head, tail, content[start:]]), tail, content[start:]]


def read_tensors(path: Path, kind: str, form: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a sealed safetensors file of a kind and format; raises SealError, or OSError.

    They are read before they are checked, and stay what they are when the file changes.
    """
    with open_plain(path) as file:
        head = file.read(8 + len(_TENSORS))
        length = int.from_bytes(head[:8], "little")
        if head[8:] != _TENSORS or length > _HEADER_LIMIT:
            raise SealError(f"{path} is cut short or no {kind} of minimand: it does not begin with a checksum.")
        content = head + file.read()
    end = len(head) + _DIGITS
    if content[len(head) : end] != _checksum([head, memoryview(content)[end:]]):
        raise SealError(f"{path} is cut short, damaged or was changed: its checksum is not that of its content.")
    try:
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        if metadata.get("kind") != kind:
            raise SealError(f"{path} is a {metadata.get('kind')} of minimand; expected a {kind}.")
        if metadata.get("format") != str(form):
            raise SealError(
                f"{path} is of format {metadata.get('format')}, which minimand {metadata.get('minimand')} wrote; "
                f"this version reads format {form}: make it anew, or use that version."
            )
        return load(content), metadata
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SealError):
            raise
        raise SealError(f"{path} is no {kind} that can be read ({error}).") from None


def map_tensors(path: Path, kind: str, form: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and metadata as of `read_tensors`, as arrays that are read from the file when they are used.

    The checksum is that of the file as it is now; raises SealError, or OSError.
    """
    with open_plain(path) as file:
        head = file.read(8 + len(_TENSORS))
        length = int.from_bytes(head[:8], "little")
        checksum = file.read(_DIGITS)
        if head[8:] != _TENSORS or length > _HEADER_LIMIT:
            raise SealError(f"{path} is cut short or no {kind} of minimand: it does not begin with a checksum.")
        pieces = iter(lambda: file.read(2**20), b"")
        header = file.read(length + 8 - file.tell())
        if checksum != _checksum(chain([head, header], pieces)):
            raise SealError(f"{path} is cut short, damaged or was changed: its checksum is not that of its content.")
    try:
        entries = json.loads(head[8:] + checksum + header)
        metadata = entries.pop("__metadata__")
        if (metadata["kind"], metadata["format"]) != (kind, str(form)):
            raise SealError(
                f"{path} is a {metadata['kind']} of format {metadata['format']}; expected a {kind}, {form}."
            )
        return {name: _mapped(path, 8 + length, **entry) for name, entry in entries.items()}, metadata
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SealError):
            raise
        raise SealError(f"{path} is no {kind} that can be read ({error}).") from None


def _mapped(path: Path, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    kind = {"U8": np.uint8, "I16": np.int16, "I32": np.int32, "I64": np.int64}[dtype]
    if 0 in shape:  # an empty tensor cannot be mapped
        return np.zeros(shape, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r", offset=start + data_offsets[0], shape=tuple(shape))


def open_plain(path: Path) -> BinaryIO:
    """A file opened to be read; raises SealError where it is none, such as a pipe that would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SealError(f"{path} is no file.")
    return os.fdopen(descriptor, "rb")


def _sealed_text(head: bytes, tail: str) -> str:
    return (head + _checksum([head, tail.encode()])).decode() + tail


def _checksum(parts: Iterable[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGITS // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()
