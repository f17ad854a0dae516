"""Hardened models as ONNX files, for other runtimes."""

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from .._support.extras import require
from .._support.files import write_whole
from ..equilibrium import Equilibrium
from ..networks.compiled import unwrapped
from ..networks.kinds import check_model


def export_onnx(model: nn.Module, path: str | Path, batch: Tensor) -> float:
    """Write a model in evaluation mode as ONNX, for batches of any length; thresholds are comparisons there.

    Args:
        model: hardened or not, but not packed, from one tensor to one; it is not changed.
        batch: an example batch of at least two samples, of the shape that the model takes.

    Returns:
        The largest difference between what onnxruntime (extra `export`) gives for the batch and what the model does.
        Where a value before a threshold is within rounding of a jump, it can be that of a step.
    """
    from .packed import PackedModel

    check_model(model)
    if isinstance(model, PackedModel):
        raise MinimandError("a packed model cannot be exported: its kernels are no ONNX; export the hardened model.")
    if not isinstance(batch, Tensor) or len(batch) < 2:
        shown = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
        raise MinimandError(f"batch is {shown}; expected a batch of at least two samples: its length stays free.")
    solved = next((name for name, module in model.named_modules() if isinstance(module, Equilibrium)), None)
    if solved is not None:
        raise MinimandError(
            f"{f'module {solved!r}' if solved else 'the model'} is an equilibrium, whose solver takes as many steps as "
            "each batch needs, and ONNX holds one graph; expected a model of finite depth."
        )
    require("onnxscript", "export", "to export to ONNX")
    require("onnx", "export", "to export to ONNX")
    runtime = require("onnxruntime", "export", "to check what is exported")
    model, training = unwrapped(model), model.training
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # torch warns of its own internals here
            expected = model.eval()(batch)
            if not isinstance(expected, Tensor):
                raise MinimandError(f"model gives {type(expected).__name__}; expected a model from one tensor to one.")
            program = _program(model, batch)
            exported = torch.onnx.export(program, dynamo=True)
        assert exported is not None
        content = exported.model_proto.SerializeToString()
    finally:
        model.train(training)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (onnx_output,) = session.run(None, {session.get_inputs()[0].name: batch.numpy(force=True)})
    write_whole(Path(path), content)
    return float((torch.from_numpy(onnx_output) - expected.cpu()).abs().max())


def _program(model: nn.Module, batch: Tensor) -> torch.export.ExportedProgram:
    """The model as a graph; raises MinimandError for one of which torch can make none, as its code looks at numbers."""
    try:
        return torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # torch.export raises errors of many kinds
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MinimandError(
            f"{type(model).__name__} cannot be exported: torch.export finds no one graph for all batches ({why})"
        ) from error
