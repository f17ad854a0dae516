"""`minimand probe`: how well classes can be told apart at each layer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from rich.console import Console
from tyro.conf import Positional

from ..._support.errors import MinimandError
from ..options import DataFolder, Device, OfOwn, OwnModel, Plot, Quiet, Text, Whole, check_file
from ..shared import progress, read_data, read_data_for, read_own_model, reopen_trained, save_figure
from ._registry import command


@command("probe")
class Probe:
    """Say how well the classes can be told apart at each layer of a trained network."""

    takes: ClassVar[tuple[str, ...]] = ("data",)
    model: Positional[str]
    """The folder of a run; or path/to/file.py:name, a network or an nn.Sequential, or a function that makes one."""
    data: Text = None
    """The samples, named as for train; by default the run's."""
    data_folder: DataFolder = None
    kind: Literal["linear", "cnn"] = "linear"
    """Logistic regression on 2 x 2 averages, or convolutional classifiers."""
    hidden_layers: int = 1
    """Hidden layers of a cnn probe."""
    width: Whole = None
    """Channels of the hidden layers; by default as many as the probed layer has."""
    epochs: Whole = None
    """Epochs of a cnn probe; by default those of a recipe that suits it."""
    algorithm: OfOwn = None
    own_model: OwnModel = None
    seed: int = 0
    """The seed of the probes' weights and of the order of samples."""
    plot: Plot = None
    quiet: Quiet = False
    device: Device = None

    def __call__(self, console: Console) -> None:
        from ..._support.torch.environment import default_device
        from ...analysis.probe import probe
        from ...recipes.recipe import Recipe

        check_file("--plot", self.plot)
        model, data = self._read(console)
        result = probe(
            model,
            data,
            self.kind,
            self.hidden_layers,
            self.width,
            None if self.epochs is None else Recipe(epochs=self.epochs),
            seed=self.seed,
            device=self.device or default_device(),
            callbacks=progress(console, self.quiet),
        )
        console.print(str(result), soft_wrap=True)
        if self.plot:
            save_figure(result.plot(), self.plot, console)

    def _read(self, console: Console) -> tuple[Any, Any]:
        if ".py:" in self.model:
            if self.data is None:
                raise MinimandError(f"{self.model} needs samples; expected --data, such as --data digits.")
            return read_own_model(self.model), read_data(self.data, self.data_folder)
        if not Path(self.model).is_dir():
            raise MinimandError(f"model is {self.model!r}; expected the folder of a run, or path/to/file.py:name.")
        opened = reopen_trained(self.model, self.algorithm, console, self.own_model)
        if self.data is None:
            return opened.model, opened.data
        # Other samples, of other classes perhaps, are normalized as the run's were.
        data = read_data_for(opened, self.data, self.data_folder)
        return opened.model, replace(data, mean=opened.inputs.mean, std=opened.inputs.std)
