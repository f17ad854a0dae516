"""`minimand explain`: a model in words, by layer."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console
from tyro.conf import Positional, arg

from ..._support.errors import MinimandError
from ..._support.tables import make_table
from ..options import Binding, DataFolder, OfOwn, OwnModel, Text
from ..shared import read_data, reopen_trained, takes_tokens
from ._registry import command


@command("explain")
class Explain:
    """Explain a model: what its skeleton does, its certificate, and each layer with shapes, parameters and MACs."""

    takes: ClassVar[tuple[str, ...]] = ("models", "data", "algorithms")
    model: Positional[str]
    """A named model; path/to/file.py:Net, your own; or the folder of a run."""
    data: Text = None
    """The data that the model is for, as for train; by default the digits or another small data set that is there."""
    data_folder: DataFolder = None
    shape: Annotated[tuple[int, ...], arg(metavar="N [N ...]", help_behavior_hint="")] = ()
    """The shape of one sample in place of data, as in --shape 3 32 32."""
    algorithm: OfOwn = None
    binding: Binding = None
    own_model: OwnModel = None

    def __call__(self, console: Console) -> None:
        from ...networks import skeletons
        from ...report import explain
        from ...report.summary import summary

        model, example = self._read(console)
        if skeletons(model):
            explanation = explain(model)
            console.print("\n".join([explanation.title, *(f"  {line}" for line in explanation.lines), ""]))
            console.print(make_table(["", "", ""], explanation.certificate.rows(), explanation.certificate.title))
            console.print()
        table = summary(model, example)
        console.print(make_table(table.columns(), table.rows(), labels=3))
        console.print(table.note)

    def _read(self, console: Console) -> tuple[Any, Any]:
        """The model and a batch for it."""
        from ...data.registry import default_data
        from ...models.registry import create_for, model_for

        is_run = Path(self.model).is_dir()
        if self.shape and (is_run or self.data):
            other = "a run has its own shape" if is_run else f"--data {self.data!r} is given too"
            raise MinimandError(f"--shape is {self.shape}, and {other}; expected one of them.")
        if is_run and self.data:
            raise MinimandError(f"--data is {self.data!r}, and a run has its own; expected none beside a run.")
        if is_run:
            opened = reopen_trained(self.model, self.algorithm, console, self.own_model)
            return opened.model, _zeros(opened.inputs.shape, opened.inputs.text is not None)
        if any(size < 1 for size in self.shape):
            raise MinimandError(f"--shape is {self.shape}; expected positive sizes, as in --shape 3 32 32.")
        if self.shape:
            tokens = takes_tokens(self.model)
            model = create_for(self.model, self.shape, 10, self.algorithm, self.binding, tokens=tokens)
            return model, _zeros(self.shape, tokens)
        data = read_data(self.data or default_data(takes_tokens(self.model)), self.data_folder)
        return model_for(self.model, data, self.algorithm, self.binding), data


def _zeros(shape: tuple[int, ...], tokens: bool) -> Any:
    """A batch of two samples of zeros, or of the first token."""
    import torch

    return torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32)
