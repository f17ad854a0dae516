"""`minimand diagnose`: why a network does not train."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console
from tyro.conf import Positional, arg

from ..._support.errors import MinimandError
from ..options import DataFolder, Device, OwnModel, Plot, Text, Whole, check_file
from ..shared import read_data, read_data_for, reopen_trained, save_figure, takes_tokens
from ._registry import command


@command("diagnose")
class Diagnose:
    """Say whether a network would train, why not, and which call repairs it."""

    takes: ClassVar[tuple[str, ...]] = ("models", "data", "algorithms")
    model: Positional[str]
    """path/to/file.py:name, a module, a class or a function that makes one; the folder of a run; or a named model."""
    data: Text = None
    """The batch is from this data, as for train; by default the run's, or for a named model the same as for train."""
    data_folder: DataFolder = None
    shape: Annotated[tuple[int, ...], arg(metavar="N [N ...]", help_behavior_hint="")] = ()
    """The shape of one sample, for a batch of random numbers instead; smooth ones for images. Random numbers tell less
    of angles than data do."""
    tokens: Whole = None
    """The size of a vocabulary: with --shape, random integers below this instead, as language models read."""
    algorithm: Text = None
    """The algorithm of a named model, as for train; or of a run, if it is your own."""
    own_model: OwnModel = None
    batch_size: int = 64
    """The number of samples in the batch."""
    seed: int = 0
    """The seed of the weights and of the batch."""
    fix: bool = False
    """Make the call that repairs the network, and diagnose again."""
    output: Annotated[Text, arg(aliases=["-o"])] = None
    """Write the weights that --fix repaired to this file, a state dict as torch.save makes it."""
    report: Text = None
    """Write the diagnosis as one HTML page to this file."""
    jacobian: bool = False
    """Also find the singular values from the input to the output."""
    curvature: bool = False
    """Also find the largest step size by the tangent kernel and, with data, the ends of the Hessian's spectrum."""
    plot: Plot = None
    device: Device = None

    def __call__(self, console: Console) -> None:
        import torch

        from ..._support.checks import check_number
        from ..._support.torch.environment import as_device
        from ...report.diagnosis import write_diagnosis
        from ...trainability.diagnosis.diagnose import diagnose
        from ...training.fit import check_seed

        check_number("--batch-size", self.batch_size, 1, float("inf"), whole=True)
        check_seed(self.seed)
        for option, path in (("--plot", self.plot), ("--output", self.output), ("--report", self.report)):
            check_file(option, path)
        if self.output and not self.fix:
            raise MinimandError(f"--output is {self.output!r}, but nothing is repaired; expected --fix beside it.")
        device = as_device(self.device)
        torch.manual_seed(self.seed)
        model, x, y = self._read(console)
        model, x, y = model.to(device), x.to(device), None if y is None or not self.curvature else y.to(device)
        look = partial(diagnose, model, x, target=y, jacobian=self.jacobian, curvature=self.curvature)
        report, repaired = look(), None
        console.print(report.text(console.width), soft_wrap=True, markup=False)
        remedy = report.verdict.remedy
        if self.fix and remedy is None:
            console.print(f"nothing to repair{f': {self.output} is not written' if self.output else ''}")
        elif self.fix and remedy is not None:
            remedy.apply(model, x)
            repaired = look()
            console.print(f"\nrepaired:\n{repaired.text(console.width)}", soft_wrap=True, markup=False)
            if self.output:
                self._save(model, remedy, console)
        if self.plot:
            save_figure((repaired or report).plot(), self.plot, console)
        if self.report:
            write_diagnosis(report, Path(self.report), repaired)
            console.print(f"report: {self.report}", soft_wrap=True)

    def _save(self, model: Any, remedy: Any, console: Console) -> None:
        """Write the state dict of a repaired model, and say what else goes with it."""
        import io

        import torch

        from ..._support.files import write_whole

        buffer = io.BytesIO()
        torch.save(model.cpu().state_dict(), buffer)
        write_whole(Path(str(self.output)), buffer.getvalue())
        console.print(f"weights: {self.output}, for model.load_state_dict(torch.load(...))", soft_wrap=True)
        for name, argument in remedy.calls:
            if name == "normalize":  # normalize changes modules, so the file of weights alone does not fit
                console.print(f'before they are loaded: mm.normalize(model, "{argument}")', soft_wrap=True)

    def _read(self, console: Console) -> tuple[Any, Any, Any]:
        """The model, a batch and, of data, its targets."""
        from ...data.registry import default_data
        from ...models.registry import create_for, model_for

        if any(size < 1 for size in self.shape):
            raise MinimandError(f"--shape is {self.shape}; expected positive sizes, as in --shape 3 32 32.")
        if self.data and self.shape:
            raise MinimandError(
                f"--shape is {self.shape}, and --data {self.data!r} is given too; expected one of them."
            )
        if Path(self.model).is_dir():
            opened = reopen_trained(self.model, self.algorithm, console, self.own_model)
            if self.shape:
                return opened.model, self._random(), None
            if not self.data:
                return opened.model, *self._batch(opened.data)
            data = opened.fitting(read_data_for(opened, self.data, self.data_folder))
            return opened.model, *self._batch(data)
        if self.shape:
            outputs, is_text = self.tokens or 10, self.tokens is not None
            model = create_for(self.model, self.shape, outputs, self.algorithm, tokens=is_text)
            return model, self._random(), None
        if ".py:" in self.model and not self.data:
            raise MinimandError(
                f"{self.model} needs a batch; expected --shape, the shape of one sample as in --shape 3 32 32, or "
                "--data."
            )
        data = read_data(self.data or default_data(takes_tokens(self.model)), self.data_folder)
        return model_for(self.model, data, self.algorithm), *self._batch(data)

    def _batch(self, data: Any) -> tuple[Any, Any]:
        x, y, *_ = next(iter(data.train.batches(self.batch_size, self.seed)))
        return data.prepare(x), y

    def _random(self) -> Any:
        import torch
        from torch.nn.functional import interpolate

        if self.tokens is not None:
            if self.tokens < 1:
                raise MinimandError(f"--tokens is {self.tokens}; expected the size of the vocabulary, at least 1.")
            return torch.randint(self.tokens, (self.batch_size, *self.shape))
        if len(self.shape) != 3:
            return torch.randn(self.batch_size, *self.shape)
        channels, *size = self.shape
        return interpolate(torch.randn(self.batch_size, channels, 4, 4), size, mode="bicubic")
