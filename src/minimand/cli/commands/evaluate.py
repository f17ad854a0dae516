"""`minimand evaluate`: a run or a packed file on test samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from tyro.conf import Positional

from ..._support.errors import MinimandError
from ..._support.tables import make_table
from ..options import DataFolder, Device, OfOwn, OwnModel, Text
from ..shared import read_data, read_data_for, reopen_trained
from ._registry import command


@command("evaluate")
class Evaluate:
    """Evaluate the last checkpoint of a run on its test samples or others, or a packed file on those of some data."""

    takes: ClassVar[tuple[str, ...]] = ("data",)
    run: Positional[str]
    """The run's folder, or a file that `minimand pack` wrote."""
    data: Text = None
    """A named data set, a folder, or owner/name on the hub, of the shape and classes of the run's; by default the
    run's. Needed for a packed file."""
    data_folder: DataFolder = None
    algorithm: OfOwn = None
    model: OwnModel = None
    device: Device = None

    def __call__(self, console: Console) -> None:
        from ..._support.torch.environment import as_device

        device = as_device(self.device)
        if Path(self.run).is_file():
            data, evaluation = self._packed()
            about = []
        else:
            opened = reopen_trained(self.run, self.algorithm, console, self.model)
            opened.model.to(device)
            data = self._chosen(opened)
            evaluation, about = opened.evaluate(data), [["step", f"{opened.step:,}"]]
        rows = [["samples", f"{len(data.test):,} of {data.name}"], *about, ["loss", f"{evaluation.loss:.4f}"]]
        rows += [
            [name.replace("_", " "), f"{value:.4f}"] for name, value in evaluation.metrics.items() if value is not None
        ]
        if evaluation.accuracy is not None and evaluation.confusion is not None:
            rows.append(["accuracy", f"{100 * evaluation.accuracy:.2f} %"])
            for i, name in enumerate(data.classes):
                row = evaluation.confusion[i]
                rows.append([f"  {name}", f"{100 * row[i] / max(sum(row), 1):.2f} %"])
        console.print(make_table(["", ""], rows))

    def _chosen(self, opened: Any) -> Any:
        """The data of a run, or those that are named; from another folder if one is."""
        if self.data is not None:
            return read_data_for(opened, self.data, self.data_folder)
        if self.data_folder is not None:
            from ...data.registry import load_data

            return load_data(**{**opened.loaded, "data_folder": self.data_folder})
        return opened.data

    def _packed(self) -> tuple[Any, Any]:
        from ...inference.packed import load_packed
        from ...training.loop.evaluate import evaluate

        model = load_packed(self.run)
        if self.data is None:
            raise MinimandError("a packed file does not hold samples; expected --data.")
        for option, value in (("--model", self.model), ("--algorithm", self.algorithm)):
            if value is not None:
                raise MinimandError(f"{option} is {value!r}, which only the folder of a run needs; expected none here.")
        data = read_data(self.data, self.data_folder)
        if model.inputs is not None:  # inputs are normalized as they were in training
            data = replace(data, mean=model.inputs.mean, std=model.inputs.std)
        return data, evaluate(model, data)
