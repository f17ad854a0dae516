"""The command that says why a network does not train."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from .._support.errors import MinimandError, WrongTypeError
from .options import Text, Whole, check_plot


@dataclass(frozen=True)
class Diagnose:
    """Say whether a network would train, why not, and which call repairs it."""

    model: Positional[str]
    """path/to/file.py:name, a module, a class or a function that makes one; the folder of a run; or a named model."""
    data: Text = None
    """The batch is from this data, as for train; for a named model the same default."""
    data_folder: Text = None
    """Where the files of a named data set are, such as cifar10's."""
    shape: Annotated[tuple[int, ...], arg(metavar="N [N ...]", help_behavior_hint="")] = ()
    """Of one sample, for a batch of random numbers instead; smooth ones for images. What they tell of angles is less
    than data do."""
    tokens: Whole = None
    """With --shape: random integers below this instead, as language models read."""
    algorithm: Text = None
    """Of a named model, as for train; or of a run, if it is your own."""
    batch_size: int = 64
    """Samples."""
    seed: int = 0
    """Decides the weights and the batch."""
    fix: bool = False
    """Make the call that repairs it, and diagnose again."""
    jacobian: bool = False
    """Also find the singular values from the input to the output."""
    curvature: bool = False
    """Also find the largest step size by the tangent kernel and, with data, the ends of the Hessian's spectrum."""
    plot: Text = None
    """Write the figure to this file."""
    device: Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""

    def __call__(self, console: Console) -> None:
        import torch

        from .._support.checks import check_number
        from .._support.environment import as_device, default_device
        from ..trainability.diagnosis.diagnose import diagnose
        from ..training.arguments import check_seed

        check_number("batch_size", self.batch_size, 1, float("inf"), whole=True)
        check_seed(self.seed)
        check_plot(self.plot)
        device = as_device(self.device) if self.device else default_device()
        torch.manual_seed(self.seed)
        model, x, y = self._read()
        model, x, y = model.to(device), x.to(device), None if y is None or not self.curvature else y.to(device)
        look = partial(diagnose, model, x, target=y, jacobian=self.jacobian, curvature=self.curvature)
        report = look()
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
        if self.fix and report.verdict.remedy is None:
            console.print("nothing to repair", highlight=False)
        elif self.fix and report.verdict.remedy is not None:
            report.verdict.remedy.apply(model, x)
            report = look()
            console.print(f"\nrepaired:\n{report}", highlight=False, markup=False, soft_wrap=True)
        if self.plot:
            report.plot().savefig(self.plot)
            console.print(f"figure: {self.plot}", highlight=False)

    def _read(self) -> tuple[Any, Any, Any]:
        """The model, a batch and, of data, its targets."""
        from ..data.registry import default_data, load_data
        from ..experiments.reopen import reopen
        from ..models.registry import create_for

        if ".py:" in self.model:
            model = own(self.model)
            if not self.shape and not self.data:
                raise MinimandError(
                    f"{self.model} needs a batch; expected --shape, the shape of one sample as in --shape 3 32 32, or "
                    "--data."
                )
            if self.shape:
                return model, self._random(), None
            return model, *self._batch(load_data(str(self.data), **self._folder()))
        if Path(self.model).is_dir():
            opened = reopen(self.model, self.algorithm)
            opened.load_trained()
            return opened.model, *self._batch(opened.data)
        data = load_data(self.data or default_data(), **self._folder())
        return create_for(self.model, data.shape, data.num_outputs, self.algorithm), *self._batch(data)

    def _folder(self) -> dict[str, str]:
        return {"data_folder": self.data_folder} if self.data_folder else {}

    def _batch(self, data: Any) -> tuple[Any, Any]:
        x, y, *_ = next(iter(data.train.batches(self.batch_size, self.seed)))
        return data.prepare(x), y

    def _random(self) -> Any:
        import torch
        from torch.nn.functional import interpolate

        if any(size < 1 for size in self.shape):
            raise MinimandError(f"shape is {self.shape}; expected positive sizes, as in --shape 3 32 32.")
        if self.tokens is not None:
            if self.tokens < 1:
                raise MinimandError(f"tokens is {self.tokens}; expected the size of the vocabulary, at least 1.")
            return torch.randint(self.tokens, (self.batch_size, *self.shape))
        if len(self.shape) != 3:
            return torch.randn(self.batch_size, *self.shape)
        channels, *size = self.shape
        return interpolate(torch.randn(self.batch_size, channels, 4, 4), size, mode="bicubic")


def own(text: str) -> Any:
    """The module that a user's file names."""
    from torch import nn

    from .._support.calls import call_with, parse_call, run_file
    from .._support.errors import unknown_name

    source, _, call = text.rpartition(".py:")
    name, arguments = parse_call(call, "model")
    module_name, found = run_file(Path(f"{source}.py"), "model")
    if name not in found:
        makers = [key for key, value in found.items() if getattr(value, "__module__", "") == module_name]
        makers += [key for key, value in found.items() if isinstance(value, nn.Module)]
        raise unknown_name(f"model in {source}.py", name, makers)
    made = found[name]
    if not isinstance(made, nn.Module) and callable(made):
        try:
            made = call_with(made, arguments, name)
        except TypeError as error:
            raise MinimandError(
                f"{text} cannot be made ({error}); expected arguments, as in file.py:Net(width=64)."
            ) from error
        except Exception as error:
            raise MinimandError(f"{text} raises {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise WrongTypeError(
            f"{text} is {type(made).__name__}; expected a module, or a class or function that makes one."
        )
    return made
