"""A run is a folder: config.yaml, metrics.jsonl, checkpoints/ and report.html."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._support.errors import MinimandError
from ..._support.files import append_line, locked, write_whole
from ..._support.names.calls import file_name
from ..._support.plain_yaml import YamlError, read_yaml, yaml_text
from ..._support.sealed import SealError, open_plain, read_sealed_text, sealed_yaml
from ...data.data import Text
from ...data.text.kept import TOKENIZER_FILE, keep_tokenizer, read_tokenizer
from ...data.text.tokenizers import Tokenizer
from . import checkpoint

FORMAT = "run 1"
_CONFIG_LIMIT = 2**22  # bytes, of which a configuration has a few thousand, and more with many columns or classes
# What a configuration says of itself, and of what does not decide the result.
_NOT_COMPARED = {"run", "command", "environment"}


class RunError(MinimandError):
    """A folder that is no run, a run of something else, or one that was damaged or taken away."""


class RunInUseError(RunError):
    """The folder of a run in which another process trains."""


class Run:
    """The folder of a training run, made or opened again."""

    def __init__(self, folder: str | Path, command: Mapping[str, Any] | None = None) -> None:
        """`command` holds the options of the command line, from which the same run can be started again."""
        self.folder, self._command = Path(folder), command
        self.checkpoints, self.report = self.folder / "checkpoints", self.folder / "report.html"
        self._metrics, self._config = self.folder / "metrics.jsonl", self.folder / "config.yaml"
        self._text = self._id = ""  # of config.yaml, since it was read or written
        self._place: tuple[int, int] | None = None  # the device and inode of the folder while it is claimed
        self.notes: list[str] = []
        """Sentences on what was damaged in the folder and could be repaired."""

    @property
    def is_new(self) -> bool:
        """Whether no training has begun in the folder yet."""
        return not self._config.is_file() and not checkpoint.paths(self.checkpoints)

    @classmethod
    def existing(cls, folder: str | Path) -> "Run":
        """A run that is there; raises RunError for a folder that is missing or no run."""
        run = cls(folder)
        if run.is_new:
            what = "holds no config.yaml" if run.folder.is_dir() else "does not exist"
            what = "is a file, and no folder" if run.folder.is_file() else what
            raise RunError(f"{str(folder)!r} is no run: it {what}.")
        return run

    def command(self) -> dict[str, Any]:
        """The options that the command line was given; none before the run begins, and where Python code began it."""
        if self.is_new:
            return {}
        command = self.config().get("command")
        if not isinstance(command, dict | None) or any(not isinstance(name, str) for name in command or ()):
            raise RunError(f"{self._config} has the command {command!r}; expected options by their names.")
        return command or {}

    def config(self) -> dict[str, Any]:
        """What the run was started with, and its id under `run`.

        Where config.yaml is missing or damaged, the copy in the last checkpoint that can be read takes its place.
        """
        try:
            self._text = read_sealed_text(self._config, _CONFIG_LIMIT)
        except (SealError, FileNotFoundError) as error:
            problem = str(error) if isinstance(error, SealError) else f"{self._config} is missing."
            self._text = self._text or self._saved_text()
            if not self._text:
                raise RunError(f"{problem} No checkpoint has a copy: begin the run again in another folder.") from None
            note = f"{problem} Its copy in a checkpoint is used."
            if note not in self.notes:
                self.notes.append(note)
        config = self._parsed(self._text)
        self._id = config["run"]
        return config

    def _saved_text(self) -> str:
        for path in reversed(checkpoint.paths(self.checkpoints)):
            with suppress(checkpoint.CheckpointError):
                return checkpoint.load(path).state["config"]
        return ""

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            config = read_yaml(text)
        except YamlError as error:
            raise RunError(f"{self._config} is no YAML of a run ({error}).") from None
        if not isinstance(config, dict) or not isinstance(config.get("run"), str):
            raise RunError(f"{self._config} is no run's configuration.")
        if config.get("format") != FORMAT:
            raise RunError(f"{self._config} is of format {config.get('format')!r}; this version reads {FORMAT!r}.")
        return {name: value for name, value in config.items() if name not in ("checksum", "format")}

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and keep other processes from training in it; what stays empty is taken away again."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot write the run to {str(self.folder)!r} ({error.strerror}).") from None
        with locked(self.folder) as free:
            if not free:
                raise RunInUseError(
                    f"another process trains in {self.folder}; wait for its end or name another folder."
                )
            self._place = self._present_place()
            try:
                yield
            finally:
                self._place = None
                with suppress(OSError):  # the folder is not empty
                    self.folder.rmdir()

    def _present_place(self) -> tuple[int, int] | None:
        try:
            status = self.folder.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def check_place(self) -> None:
        """Raise RunError where the claimed folder is no longer in its place, or checkpoints would leave it."""
        if self._place is not None and self._present_place() != self._place:
            raise RunError(
                f"the folder {str(self.folder)!r} of the run was moved or deleted while it trained. What was not yet "
                "written there is lost; if it was moved, the run goes on from its last checkpoint at the new place."
            )
        if self.checkpoints.is_symlink():
            raise RunError(f"{self.checkpoints} is a link, and a run writes in its folder only; put the folder there.")

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any], text: Text | None = None) -> None:
        """Begin in the claimed folder, or raise RunError where it holds something else, with checkpoints to be lost.

        The tokenizer of a text is kept beside the configuration, which has its digest.
        """
        self._begin(config, environment)
        if text is not None:
            try:
                keep_tokenizer(text.tokenizer, self.folder)
            except OSError as error:
                raise OSError(f"cannot write the run to {str(self.folder)!r} ({error.strerror}).") from None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of a run on text; raises RunError where it is missing or damaged."""
        try:
            return read_tokenizer(self.folder)
        except (OSError, ValueError) as error:
            raise RunError(f"{error} The run {self.folder} needs it to read text.") from None

    def _begin(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        self.check_place()
        if self._metrics.is_dir():
            raise RunError(f"{self._metrics} is a folder, and a run writes its metrics there; move it elsewhere.")
        if checkpoint.paths(self.checkpoints):
            before = {k: v for k, v in self.config().items() if k not in _NOT_COMPARED}
            changed = differences(before, json.loads(json.dumps(config)))
            if changed:
                longer = " To train its weights for longer: mm.fit(mm.load(run).model, ..., run=another folder)."
                raise RunError(
                    f"{self.folder} holds a run with another configuration: {'; '.join(changed)}. What a run was begun "
                    "with decides all of it, its schedule too, which ends with the last epoch; name "
                    f"another folder.{longer if any('.epochs was' in change for change in changed) else ''}"
                )
            if self.notes:
                write_whole(self._config, self._text)
            return
        try:
            if self.is_new and any(p for p in self.folder.iterdir() if p.suffix != ".part" and p != self.checkpoints):
                raise RunError(f"{self.folder} holds files but no run; name an empty or a new folder.")
            command = {} if self._command is None else {"command": dict(self._command)}
            self._id = f"{file_name(self.folder.absolute().name) or 'run'}-{secrets.token_hex(4)}"
            plain = {"format": FORMAT, "run": self._id, **config, **command, "environment": environment}
            self._text = sealed_yaml(yaml_text(json.loads(json.dumps(plain))))
            if len(self._text) > _CONFIG_LIMIT:
                raise RunError(f"the run's configuration has {len(self._text):,} bytes; expected {_CONFIG_LIMIT:,}.")
            write_whole(self._config, self._text)
        except OSError as error:
            raise OSError(f"cannot write the run to {str(self.folder)!r} ({error.strerror}).") from None

    def discard(self) -> None:
        """Take away what `begin` left, if there is no checkpoint."""
        if not checkpoint.paths(self.checkpoints):
            self._config.unlink(missing_ok=True)
            self._metrics.unlink(missing_ok=True)
            (self.folder / TOKENIZER_FILE).unlink(missing_ok=True)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the metrics."""
        self.check_place()
        append_line(self._metrics, _line(record))

    def rewind(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Let the metrics be those of a history: what a killed run logged after its last checkpoint is forgotten."""
        lines = "".join(f"{_line(record)}\n" for record in history).encode()
        try:
            with open_plain(self._metrics) as file:
                content = b"" if self._metrics.is_symlink() else file.read(len(lines) + 1)
        except (OSError, SealError):
            content = b""
        if content == lines and not self._metrics.is_symlink():
            return
        if content and not lines:
            self.notes.append(f"{self._metrics} has epochs and {self.checkpoints} no checkpoint: the run begins again.")
        elif not content.startswith(lines):
            self.notes.append(f"{self._metrics} is not what the run logged; it was written again from the checkpoint.")
        if lines:
            write_whole(self._metrics, lines)
        else:
            self._metrics.unlink(missing_ok=True)

    def save(self, contents: checkpoint.Checkpoint, step: int) -> Path:
        """Write a checkpoint with the id and the configuration of the run."""
        self.check_place()
        own = {"run": self._id, "config": self._text}
        return checkpoint.save(replace(contents, state={**own, **contents.state}), self.checkpoints, step)

    def last_checkpoint(self) -> tuple[checkpoint.Checkpoint | None, list[str]]:
        """The newest readable checkpoint of this run, and what was wrong with newer ones."""
        run = None if self.is_new else self.config()["run"]
        return checkpoint.load_last(self.checkpoints, run)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False)


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """What changed from one configuration to another, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{path}.{k}" if path else k)]
    if before == now:
        return []
    if isinstance(before, list) and isinstance(now, list) and any(isinstance(entry, dict) for entry in before + now):
        if len(before) != len(now):
            return [f"{path} had {len(before)} entries and has {len(now)}"]
        pairs = enumerate(zip(before, now, strict=True))
        return [d for i, (old, new) in pairs for d in differences(old, new, f"{path}[{i}]")]
    _, fingerprint, name = path.rpartition("fingerprints.")
    return [f"the {name} is not what it was"] if fingerprint else [f"{path} was {before!r} and is {now!r}"]
