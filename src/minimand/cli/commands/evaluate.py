"""`minimand evaluate`: a run or a packed file on test samples."""

from pathlib import Path
from typing import ClassVar

from rich.console import Console
from tyro.conf import Positional

from ..._support.errors import MinimandError
from ..._support.tables import make_table
from ..options import Device, OfOwn, Text
from ..shared import read_data, reopen_trained
from ._registry import command


@command("evaluate")
class Evaluate:
    """Evaluate the last checkpoint of a run on its test samples; or a packed file on those of some data."""

    takes: ClassVar[tuple[str, ...]] = ("data",)
    run: Positional[str]
    """The run's folder, or a file that `minimand pack` wrote."""
    data: Text = None
    """For a packed file: a named data set, a folder, or owner/name on the hub."""
    data_folder: Text = None
    """For a packed file: where the files of a named data set are, such as cifar10's."""
    algorithm: OfOwn = None
    device: Device = None

    def __call__(self, console: Console) -> None:
        from ..._support.environment import as_device
        from ...inference.packed import load_packed
        from ...training.loop.evaluate import evaluate

        if Path(self.run).is_file():
            model, about, options = load_packed(self.run), [], {}
            if self.data is None:
                raise MinimandError("a packed file does not say what it was trained on; expected --data.")
            data = read_data(self.data, self.data_folder)
        else:
            opened, step = reopen_trained(self.run, self.algorithm, console)
            model, data, about = opened.model.to(as_device(self.device)), opened.data, [["step", f"{step:,}"]]
            options = {"loss": opened.loss, "precision": opened.recipe.precision}
        evaluation = evaluate(model, data, **options)
        rows = [["samples", f"{len(data.test):,} of {data.name}"], *about, ["loss", f"{evaluation.loss:.4f}"]]
        if evaluation.accuracy is not None and evaluation.confusion is not None:
            rows.append(["accuracy", f"{100 * evaluation.accuracy:.2f} %"])
            for i, name in enumerate(data.classes):
                row = evaluation.confusion[i]
                rows.append([f"  {name}", f"{100 * row[i] / max(sum(row), 1):.2f} %"])
        console.print(make_table(["", ""], rows))
