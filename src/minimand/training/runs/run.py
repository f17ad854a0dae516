"""A run is a folder: config.yaml, metrics.jsonl, checkpoints/ and report.html."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..._support.errors import MinimandError
from ..._support.files import locked, write_whole
from . import checkpoint


class RunError(MinimandError):
    """A folder that is no run, or a run of something else."""


class Run:
    """The folder of a training run, made or opened again."""

    def __init__(self, folder: str | Path, command: Mapping[str, Any] | None = None) -> None:
        """`command` holds the options of the command line, from which the same run can be started again."""
        self.folder, self._command = Path(folder), command
        self.checkpoints, self.report = self.folder / "checkpoints", self.folder / "report.html"
        self._metrics, self._config = self.folder / "metrics.jsonl", self.folder / "config.yaml"

    @property
    def is_new(self) -> bool:
        """Whether nothing began here yet."""
        return not self._config.is_file()

    @classmethod
    def existing(cls, folder: str | Path) -> "Run":
        """A run that is there; raises RunError for a folder that is missing or no run."""
        run = cls(folder)
        if run.is_new:
            what = "holds no config.yaml" if run.folder.is_dir() else "does not exist"
            raise RunError(f"{str(folder)!r} is no run: it {what}.")
        return run

    def command(self) -> dict[str, Any]:
        """The options that the command line was given; none before the run begins. RunError if Python code began it."""
        if self.is_new:
            return {}
        command = self.config().get("command")
        if not command:
            raise RunError(f"the run {str(self.folder)!r} was begun by Python code; call mm.fit there again to go on.")
        return command

    def config(self) -> dict[str, Any]:
        """What the run was started with."""
        import yaml

        try:
            config = yaml.safe_load(self._config.read_text())
        except yaml.YAMLError as error:
            raise RunError(f"{self._config} is no YAML ({error}).") from None
        if not isinstance(config, dict):
            raise RunError(f"{self._config} is no run's configuration.")
        return config

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and keep other processes from training in it; what stays empty is taken away again."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot write the run to {str(self.folder)!r} ({error.strerror}).") from None
        with locked(self.folder) as free:
            if not free:
                raise RunError(f"another process trains in {self.folder}; wait for its end or name another folder.")
            try:
                yield
            finally:
                with suppress(OSError):  # it is not empty
                    self.folder.rmdir()

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Begin in the claimed folder, or raise RunError where it holds something else, with checkpoints to be lost."""
        import yaml

        if not self.is_new and checkpoint.paths(self.checkpoints):
            before = {k: v for k, v in self.config().items() if k not in ("command", "environment")}
            changed = differences(before, json.loads(json.dumps(config)))
            if changed:
                raise RunError(
                    f"{self.folder} holds a run with another configuration: {'; '.join(changed)}. What a run was begun "
                    "with decides all of it, its schedule too; name another folder."
                )
            return
        try:
            if self.is_new and any(p for p in self.folder.iterdir() if not p.name.endswith(".part")):
                raise RunError(f"{self.folder} holds files but no run; name an empty or a new folder.")
            command = {} if self._command is None else {"command": dict(self._command)}
            plain = json.loads(json.dumps({**config, **command, "environment": environment}))
            write_whole(self._config, yaml.safe_dump(plain, sort_keys=False))
        except OSError as error:
            raise OSError(f"cannot write the run to {str(self.folder)!r} ({error.strerror}).") from None

    def discard(self) -> None:
        """Take away what `begin` left, if there is no checkpoint."""
        if not checkpoint.paths(self.checkpoints):
            self._config.unlink(missing_ok=True)
            self._metrics.unlink(missing_ok=True)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the metrics."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def position(self) -> int:
        """The length of the metrics in bytes, to which they can be cut back."""
        return self._metrics.stat().st_size if self._metrics.is_file() else 0

    def rewind(self, position: int) -> None:
        """Forget the metrics after a position: what a killed run logged after its last checkpoint."""
        if self._metrics.is_file():
            os.truncate(self._metrics, position)

    def last_checkpoint(self) -> tuple[checkpoint.Checkpoint | None, list[str]]:
        """The newest readable checkpoint, and what was wrong with newer ones."""
        return checkpoint.load_last(self.checkpoints)


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """What changed from one configuration to another, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{path}.{k}" if path else k)]
    if before == now:
        return []
    _, fingerprint, name = path.rpartition("fingerprints.")
    return [f"the {name} is not what it was"] if fingerprint else [f"{path} was {before!r} and is {now!r}"]
