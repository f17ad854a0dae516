"""A few faults of each kind; `make soak` makes hundreds of them, for every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.faults import compiler

SCRIPT = Path(__file__).with_name("faulty.py")


@pytest.mark.skipif(compiler() is None, reason="no C compiler, or not Linux")
def test_what_was_killed_or_found_the_disk_full_ends_as_if_undisturbed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    numbers = ["--kills", "4", "--disks", "2", "--pairs", "2"]
    only = ["--only", "train target_propagation", "pack"]
    command = [sys.executable, str(SCRIPT), *numbers, *only, "--output", str(tmp_path / "counts.json")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())["counts"]
    assert counts["kills"] >= 4  # some are killed twice
    assert (counts["full disks"], counts["pairs of processes"]) == (2, 2)
