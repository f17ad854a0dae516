"""`minimand export`: a run's model as ONNX."""

from rich.console import Console
from tyro.conf import Positional

from ..options import OfOwn, Output, OwnModel, check_file
from ..shared import reopen_trained
from ._registry import command


@command("export")
class Export:
    """Write the model of a run as ONNX, and check it against onnxruntime."""

    run: Positional[str]
    """The folder of the run to export."""
    output: Output
    """The file to write, such as model.onnx."""
    algorithm: OfOwn = None
    model: OwnModel = None

    def __call__(self, console: Console) -> None:
        from ...inference.export import export_onnx

        check_file("--output", self.output)
        opened = reopen_trained(self.run, self.algorithm, console, self.model)
        difference = export_onnx(opened.model, self.output, opened.data.example(count=8))
        console.print(f"exported: {self.output}; largest difference from torch {difference:.1g}")
