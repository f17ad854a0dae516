"""The checks that a GPU is held to pass on the CPU: the script has to stand when a GPU is there."""

from pathlib import Path

import pytest
import torch


def test_the_checks_of_the_gpu_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu  # pyright: ignore[reportMissingImports]

    gpu.check_stages(torch.device("cpu"))
    gpu.check_runs(torch.device("cpu"))
    assert "runs: resume to the same bits" in capsys.readouterr().out
