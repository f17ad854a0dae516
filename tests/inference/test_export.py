"""Hardened models in other runtimes."""

from pathlib import Path

import pytest
import torch
from hardened import ready
from torch import nn

import minimand as mm


def _network() -> nn.Module:
    model = nn.Sequential(
        *(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.MaxPool2d(2), mm.QuantizedReLU(4)),
        *(nn.Flatten(), nn.Linear(54, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2)),
    )
    mm.harden(model, mm.Sign(), 1)
    return ready(model, torch.randn(4, 3, 10, 10))


def test_onnxruntime_gives_what_the_hardened_model_gives_for_any_batch(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = _network().train()
    assert mm.export_onnx(model, tmp_path / "model.onnx", torch.randn(3, 3, 10, 10)) < 1e-5
    assert model.training
    model.eval()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (entry,) = session.get_inputs()
    for batch in (1, 5):
        x = torch.randn(batch, 3, 10, 10)
        (y,) = session.run(None, {entry.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model(x), rtol=1e-5, atol=1e-5)


def test_torch_export_gives_the_same_network() -> None:
    model, x = _network(), torch.randn(3, 3, 10, 10)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert torch.equal(program.module()(x[:2]), model(x[:2]))


def test_mistakes(tmp_path: Path) -> None:
    model = _network()
    with pytest.raises(ValueError, match="a packed model cannot be exported.*export the hardened model"):
        mm.export_onnx(mm.pack(model), tmp_path / "model.onnx", torch.randn(2, 3, 10, 10))
    with pytest.raises(ValueError, match=r"batch is \(1, 3, 10, 10\); expected a batch of at least two samples"):
        mm.export_onnx(model, tmp_path / "model.onnx", torch.randn(1, 3, 10, 10))
    with pytest.raises(ValueError, match="batch is str; expected a batch"):
        mm.export_onnx(model, tmp_path / "model.onnx", "x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="model is str; expected a module"):
        mm.export_onnx("x", tmp_path / "model.onnx", torch.randn(2, 3, 10, 10))  # pyright: ignore[reportArgumentType]
    lstm = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="model gives tuple; expected a model from one tensor to one"):
        mm.export_onnx(lstm, tmp_path / "model.onnx", torch.randn(2, 5, 3))
    assert lstm.training
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("block", [nn.Linear(4, 4), mm.Implicit("convex_gradient(width=4)")])
def test_an_equilibrium_is_no_graph_and_is_refused_by_its_name(block: nn.Module, tmp_path: Path) -> None:
    layer = block if isinstance(block, mm.Implicit) else mm.Equilibrium(block)
    model = nn.Sequential(nn.Linear(4, 4), mm.unroll("proximal_point", [layer]) if layer is block else layer)
    with pytest.raises(ValueError, match="module '1.* is an equilibrium"):
        mm.export_onnx(model, tmp_path / "model.onnx", torch.randn(3, 4))


def test_a_model_that_looks_at_numbers_cannot_be_exported(tmp_path: Path) -> None:
    class Looks(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input if input.sum() > 0 else -input)

    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    with pytest.raises(ValueError, match=r"Looks cannot be exported: .*\(.*\)"):
        mm.export_onnx(Looks(4, 4), tmp_path / "model.onnx", torch.randn(3, 4))
    assert not list(tmp_path.iterdir())
