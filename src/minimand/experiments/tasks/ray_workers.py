"""Ray's workers: the tasks of a queue on the machines of a cluster, or of a new one on this machine."""

import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any, Self

import torch

from ..._support.errors import MinimandError
from ..._support.extras import require
from .workers import Package, perform


class RayWorkers:
    """Workers of the cluster that Ray is connected to, else of RAY_ADDRESS, else of a new one on this machine.

    A task takes a core, and has one thread; on GPUs it takes one of them, too.
    """

    def __init__(self, package: Package, jobs: int | None, device: torch.device) -> None:
        self.package, self.room = package, jobs or 2**31
        self._ray = require("ray", "cluster", "to run tasks on a cluster")
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            _check_address(os.environ.get("RAY_ADDRESS", ""))
            try:
                self._ray.init(include_dashboard=False, logging_level="ERROR")
            except ConnectionError as error:
                raise MinimandError(
                    f"RAY_ADDRESS is {os.environ.get('RAY_ADDRESS')!r}, where no cluster answers ({error})."
                ) from None
        # A lost task is given out again by the queue, which counts how often.
        resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(device.type == "cuda"), "max_retries": 0}
        self._perform = self._ray.remote(**resources)(_perform)
        self._references: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_own:
            self._ray.shutdown()

    def submit(self, number: int) -> "Future[Mapping[str, str]]":
        """Do the task of a number where the cluster has room."""
        reference = self._perform.remote(**asdict(self.package), number=number)
        self._references.append(reference)
        return reference.future()

    def interrupt(self) -> None:
        """Ask all workers to write their checkpoints and stop."""
        self._cancel(force=False)

    def kill(self) -> None:
        """End the processes of all workers at once."""
        self._cancel(force=True)

    def _cancel(self, force: bool) -> None:
        for reference in self._references:
            self._ray.cancel(reference, force=force)


def _check_address(address: str) -> None:
    """Raise MinimandError where RAY_ADDRESS names a host and a port at which nothing listens: Ray waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise MinimandError(f"RAY_ADDRESS is {address!r}, where no cluster answers ({error}).") from None


def _perform(path: str, checksum: str, number: int) -> dict[str, str]:
    torch.set_num_threads(1)
    return perform(path, checksum, number)
