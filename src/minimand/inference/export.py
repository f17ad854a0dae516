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
    require("onnxscript", "export", "to export to ONNX")
    require("onnx", "export", "to export to ONNX")
    runtime = require("onnxruntime", "export", "to check what is exported")
    model, training = unwrapped(model), model.training
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, on what it does inside
            dynamic_shapes = ({0: torch.export.Dim("batch")},)
            expected = model.eval()(batch)
            if not isinstance(expected, Tensor):
                raise MinimandError(f"model gives {type(expected).__name__}; expected a model from one tensor to one.")
            program = torch.export.export(model, (batch,), dynamic_shapes=dynamic_shapes)
            exported = torch.onnx.export(program, dynamo=True)
        assert exported is not None
        content = exported.model_proto.SerializeToString()
    finally:
        model.train(training)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (onnx_output,) = session.run(None, {session.get_inputs()[0].name: batch.numpy(force=True)})
    write_whole(Path(path), content)
    return float((torch.from_numpy(onnx_output) - expected.cpu()).abs().max())
