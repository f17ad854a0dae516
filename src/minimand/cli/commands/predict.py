"""`minimand predict`: what a trained model says of images."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ..._support.tables import make_table
from ..options import Device, OfOwn, OwnModel
from ._registry import command


@command("predict")
class Predict:
    """Say of what class images are, by the model of a run or by a packed file."""

    run: Positional[str]
    """The run's folder, or a file that `minimand pack` wrote."""
    files: Positional[Annotated[tuple[str, ...], arg(metavar="FILE [FILE ...]", help_behavior_hint="")]]
    """Images, folders of images, or arrays of samples (.npy)."""
    top: int = 1
    """The number of classes that are shown of each image, the likeliest first."""
    algorithm: OfOwn = None
    model: OwnModel = None
    device: Device = None

    def __call__(self, console: Console) -> None:
        from ...experiments.predict import predict

        check_number("--top", self.top, 1, float("inf"), whole=True)
        if not self.files:
            raise MinimandError("no files to predict; expected images, folders of images or .npy files.")
        for path in (self.run, *self.files):
            if not Path(path).exists():
                raise FileNotFoundError(f"no file or folder {path!r}.")
        options = {"own": self.model, "algorithm": self.algorithm, "device": self.device}
        predictions = predict(self.run, list(self.files), **options)
        console.print(make_table(predictions.columns(), predictions.rows(self.top), labels=2))
