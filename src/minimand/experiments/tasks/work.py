"""The work of a queue: what is done for each task, in whatever process, and the records of what it came to."""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from ..._support.files import write_whole
from ..._support.sealed import SealError, read_sealed_text, sealed_json
from ..study import CallbacksByLabel

Record = dict[str, Any]
"""What a task came to, as plain values."""
T = TypeVar("T")

_LIMIT = 2**28  # the most bytes of a record that is read


class Work(ABC, Generic[T]):
    """What is done for each task of a queue, in whatever process: it and its tasks can be pickled."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device that each task of the queue computes on."""

    @abstractmethod
    def do(self, task: T, callbacks: CallbacksByLabel) -> Record:
        """The record of a task; the callbacks are told of each training in it."""

    @abstractmethod
    def key(self, task: T) -> str:
        """The name of a task in the folder of records."""

    @abstractmethod
    def label(self, task: T) -> str:
        """The name of a task for a person."""

    def check(self) -> None:
        """Raise MinimandError where this machine lacks what the tasks need, such as a folder of data."""


class Records:
    """A folder with a sealed JSON file for the record of each task, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> Record | None:
        """The record of a key; None where there is none, or, with a warning, where it is damaged."""
        try:
            text = read_sealed_text(self._path(key), _LIMIT)
        except FileNotFoundError:
            return None
        except SealError as error:
            warnings.warn(f"{error} It is made again.", stacklevel=2)
            return None
        record: Record = json.loads(text)["record"]
        return record

    def write(self, key: str, record: Mapping[str, Any]) -> Record:
        """Write the record of a key, and return it as it will be read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"record": record})
        write_whole(self._path(key), sealed_json(text))
        return json.loads(text)["record"]

    def remove(self, key: str) -> None:
        """Remove the record of a key, and the folder with the last one."""
        self._path(key).unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            self.folder.rmdir()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
