"""The command that says what can be told from each layer of a trained network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from .._support.errors import MinimandError
from .options import Text, Whole, check_plot


@dataclass(frozen=True)
class Probe:
    """Say how well the classes can be told apart at each layer of a trained network."""

    model: Positional[str]
    """The folder of a run; or path/to/file.py:name, a network or an nn.Sequential, or a function that makes one."""
    data: Text = None
    """By default the run's; as for train."""
    data_folder: Text = None
    """Where the files of a named data set are, such as cifar10's."""
    kind: Literal["linear", "cnn"] = "linear"
    """Logistic regression on 2 x 2 averages, or convolutional classifiers."""
    hidden_layers: int = 1
    """Of a cnn probe."""
    width: Whole = None
    """Channels of those; by default as many as the layer has."""
    epochs: Whole = None
    """Of a cnn probe; by default those of a recipe that suits it."""
    algorithm: Text = None
    """Needed if the run's algorithm is your own: path/to/file.py:MyMethod."""
    seed: int = 0
    """Decides the weights of probes and the order of samples."""
    plot: Text = None
    """Write the figure to this file."""
    quiet: bool = False
    """Print only the result."""
    device: Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""

    def __call__(self, console: Console) -> None:
        from .._support.environment import default_device
        from ..analysis.probe import probe
        from ..recipes.recipe import Recipe
        from .training import show_progress

        check_plot(self.plot)
        model, data = self._read()
        found = probe(
            model,
            data,
            self.kind,
            self.hidden_layers,
            self.width,
            None if self.epochs is None else Recipe(epochs=self.epochs),
            seed=self.seed,
            device=self.device or default_device(),
            callbacks=[] if self.quiet else [show_progress(console)],
        )
        console.print(str(found), highlight=False, markup=False, soft_wrap=True)
        if self.plot:
            found.plot().savefig(self.plot)
            console.print(f"figure: {self.plot}", highlight=False)

    def _read(self) -> tuple[Any, Any]:
        from ..data.registry import load_data
        from ..experiments.reopen import reopen
        from .diagnose import own

        named = (
            load_data(self.data, **({"data_folder": self.data_folder} if self.data_folder else {}))
            if self.data
            else None
        )
        if ".py:" in self.model:
            if named is None:
                raise MinimandError(f"{self.model} needs samples; expected --data, such as --data digits.")
            return own(self.model), named
        if not Path(self.model).is_dir():
            raise MinimandError(f"model is {self.model!r}; expected the folder of a run, or path/to/file.py:name.")
        opened = reopen(self.model, self.algorithm)
        opened.load_trained()
        return opened.model, named or opened.data
