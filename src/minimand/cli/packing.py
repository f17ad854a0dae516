"""Commands that make a run's model ready for use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from .._support.errors import MinimandError
from .options import Text, Whole

_Output = Annotated[str, arg(aliases=["-o"])]


@dataclass(frozen=True)
class Pack:
    """Pack the network of steps in a run into a file that runs on bits; `minimand evaluate FILE` evaluates it."""

    run: Positional[str]
    """The run's folder."""
    output: _Output
    """The file."""
    weight_bits: Whole = None
    """Round the real weights between thresholds to so many bits (8, 4, 2 or 1), after training."""
    algorithm: Text = None
    """Needed if the run's algorithm is your own: path/to/file.py:MyMethod."""

    def __call__(self, console: Console) -> None:
        from ..inference.packed import pack

        _check_output(self.output)
        opened = _trained(self.run, self.algorithm, console)
        packed = pack(opened.model, self.weight_bits)
        packed.save(self.output)
        console.print(str(packed), highlight=False, markup=False)
        if opened.recipe.precision == "bf16":
            console.print("note: the file gives what the model gives in float32; the run is evaluated in bfloat16.")
        console.print(f"packed: {self.output}", highlight=False)


@dataclass(frozen=True)
class Export:
    """Write the model of a run as ONNX, and check it against onnxruntime."""

    run: Positional[str]
    """The run's folder."""
    output: _Output
    """The file."""
    algorithm: Text = None
    """Needed if the run's algorithm is your own: path/to/file.py:MyMethod."""

    def __call__(self, console: Console) -> None:
        from ..inference.export import export_onnx

        _check_output(self.output)
        opened = _trained(self.run, self.algorithm, console)
        inputs, _ = next(iter(opened.data.test.batches(8)))
        difference = export_onnx(opened.model, self.output, opened.data.prepare(inputs))
        console.print(f"exported: {self.output}; largest difference from torch {difference:.1g}", highlight=False)


def _trained(folder: str, algorithm: str | None, console: Console) -> Any:
    from ..experiments.reopen import reopen

    opened = reopen(folder, algorithm)
    _, problems = opened.load_trained()
    for problem in problems:
        console.print(f"note: {problem} The one before it is used.", highlight=False)
    return opened


def _check_output(path: str) -> None:
    """Raise ValueError where no file can be written, before the work is done."""
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise MinimandError(f"output is {path!r}; expected a file in a folder that exists.")
