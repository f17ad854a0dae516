"""What a trained model says of images and other samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.tables import table_html, table_text
from .._support.torch.environment import as_device
from .._support.torch.modes import evaluation_mode
from ..algorithms import Algorithm
from ..data import Data, as_data, call, tensor_of
from ..data.files.folders import picture_files
from ..data.files.pictures import read_picture
from ..inference import PackedModel, load_packed
from ..recipes.recipe import Precision, from_config
from ..training import FitResult
from ..training.loop.evaluate import autocast
from .reopen import LoadedRun, load

_BATCH = 64
_ROWS = 20
_BEYOND_ONE = 16.0  # 30 deviations of numbers from 0 to 1 above their mean, at least


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of some samples, from `mm.predict`."""

    names: tuple[str, ...]
    """What each sample is called: its path, or its number."""
    outputs: Tensor = field(repr=False)
    """The outputs of the model (N, ...), in float32 on the CPU."""
    classes: tuple[str, ...]
    """The names of the classes; empty for a regression."""

    @property
    def probabilities(self) -> Tensor | None:
        """The softmax of the outputs (N, classes), or of one output its sigmoid; None for a regression.

        Outputs beyond the known classes, which a model may have, take their share and are left out.
        """
        if not self.classes:
            return None
        if self.outputs.ndim == 1 or self.outputs.shape[1] < len(self.classes) == 2:
            positive = self.outputs.reshape(len(self), 1).sigmoid()
            return torch.cat([1 - positive, positive], 1)
        return self.outputs.softmax(1)[:, : len(self.classes)]

    @property
    def labels(self) -> list[str]:
        """The name of the likeliest class of each sample; MinimandError for a regression."""
        return [choices[0][0] for choices in self.top(1)]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k likeliest classes of each sample with their probabilities, the likeliest first.

        Raises MinimandError for a regression, or a k that is no positive integer.
        """
        if self.probabilities is None or self.probabilities.ndim > 2:
            what = "numbers and no classes" if self.probabilities is None else "a class for each place"
            raise MinimandError(f"the model predicts {what}; expected one class for a sample. See `outputs`.")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise MinimandError(f"k is {k!r}; expected an integer of at least 1.")
        values, indices = self.probabilities.topk(min(k, len(self.classes)), dim=1)
        return [
            [(self.classes[i], value) for i, value in zip(row, shares, strict=True)]
            for row, shares in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def columns(self) -> list[str]:
        """The column heads of the table of likeliest classes, or of outputs."""
        return ["sample", "class", "%"] if self.classes else ["sample", "output"]

    def rows(self, k: int = 1) -> list[list[str]]:
        """A row for each of the k likeliest classes of each sample, with its probability in percent.

        The name of a sample is in its first row alone. For a regression a row of each sample's outputs.
        """
        if not self.classes:
            flat = self.outputs.reshape(len(self), -1).tolist()
            return [
                [name, " ".join(f"{value:.4g}" for value in row)] for name, row in zip(self.names, flat, strict=True)
            ]
        return [
            ["" if rank else name, label, f"{100 * p:.1f}"]
            for name, choices in zip(self.names, self.top(k), strict=True)
            for rank, (label, p) in enumerate(choices)
        ]

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        more = f"... and {len(self) - _ROWS:,} more" if len(self) > _ROWS else ""
        return table_text(self.columns(), self._first_rows(), note=more, labels=2)

    def __repr__(self) -> str:
        what = f"of {len(self.classes)} classes" if self.classes else "of numbers"
        return f"<{len(self)} predictions {what}>"

    def _repr_html_(self) -> str:
        return table_html(self.columns(), self._first_rows())

    def _first_rows(self) -> list[list[str]]:
        each = min(3, len(self.classes)) or 1
        return self.rows(3)[: _ROWS * each]


def predict(
    model: Any,
    inputs: Any,
    *,
    data: Any = None,
    own: Any = None,
    algorithm: Algorithm | str | None = None,
    device: str | torch.device | None = None,
) -> Predictions:
    """Run a trained model on images or other samples: the likeliest classes, with their probabilities.

    Images are scaled and cropped at the centre to the size that the model was trained on, and normalized as its
    training samples were.

    Args:
        model: a run's folder, an `mm.load`ed run, the result of `mm.fit`, a packed model or its file, or any module.
        inputs: samples (N, ...) or one sample, as tensor or array, on the scale of the training samples: images
            (C, H, W) as bytes or as floats from 0 to 1; a file of an image, or of samples (.npy); a PIL image; a folder
            of images; or a list of any of these. A module alone takes tensors as they are, unless there is `data`.
        data: what a module or a packed model was trained on, as for `mm.fit`; tells of classes and normalization.
        own: the model of a run that is not a named one, as for `mm.load`.
        algorithm: the algorithm of a run that is your own, as for `mm.load`.
        device: by default that of the model; for a run a GPU where there is one.

    Raises:
        MinimandError: inputs that do not fit the model, or are none, or give NaN. FileNotFoundError: no such file.
    """
    module, about, precision = _opened(model, own, algorithm, device)
    about = as_data(data) if data is not None else about
    if about is not None and about.text is not None:
        raise MinimandError(
            "predict says the class of samples, and the model is one of text; see `mm.load(run).generate`."
        )
    about = about and about.for_model(module)
    place = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    names: list[str] = []
    outputs: list[Tensor] = []
    samples = _samples(inputs, about)
    with evaluation_mode(module), torch.inference_mode(), autocast(place, precision):
        while batch := list(islice(samples, _BATCH)):
            names += [name for name, _ in batch]
            x = torch.stack([sample for _, sample in batch]).to(place)
            outputs.append(tensor_of(call(module, x if about is None else about.prepare(x))).float().cpu())
    if not outputs:
        raise MinimandError("inputs are empty; expected at least one sample.")
    whole = torch.cat(outputs)
    if undefined := [name for name, output in zip(names, whole, strict=True) if output.isnan().any()]:
        raise MinimandError(f"the outputs for {undefined[0]} are NaN ({len(undefined)} of {len(names)} samples).")
    if about is not None:
        _check_outputs(whole, about)
        return Predictions(tuple(names), whole, about.classes)
    classes = range(whole.shape[1]) if whole.ndim == 2 and whole.shape[1] > 1 else ()
    return Predictions(tuple(names), whole, tuple(map(str, classes)))


def _check_outputs(outputs: Tensor, about: Data) -> None:
    """Raise MinimandError for outputs that are not one for each class, or of two classes one for the second.

    As for `mm.fit` there may be more where the classes are those that were seen, and not all that a data set has.
    """
    width, classes = outputs.shape[1] if outputs.ndim > 1 else 1, len(about.classes)
    is_more = width > classes and not about.loaded
    if classes and width != classes and not is_more and not (width == 1 and classes == 2):
        raise MinimandError(
            f"the model gives {width} outputs, and there are {classes} classes; expected the data it was trained on."
        )


def _opened(
    model: Any, own: Any, algorithm: Algorithm | str | None, device: str | torch.device | None
) -> tuple[nn.Module, Data | None, Precision]:
    """The module, what it takes and gives if that is known, and the precision in which it was judged."""
    is_folder = isinstance(model, str | Path) and not Path(model).is_file()
    for name, value in (("model", own), ("algorithm", algorithm)):
        if value is not None and not is_folder:
            raise MinimandError(f"{name} is {value!r}, which only the folder of a run needs; expected none here.")
    if isinstance(model, str | Path) and Path(model).is_file():
        model = load_packed(model)
    elif isinstance(model, str | Path):
        model = load(model, model=own, algorithm=algorithm, device=device)
    about: Data | None = None
    precision: Precision = "fp32"
    if isinstance(model, FitResult):
        module, about = model.model, model.data
        if model.run is not None:
            precision = from_config(model.run.config()["recipe"]).precision
    elif isinstance(model, LoadedRun):
        module, about, precision = model.model, model.inputs, model.recipe.precision
    elif isinstance(model, nn.Module):
        module, about = model, model.inputs if isinstance(model, PackedModel) else None
    else:
        raise WrongTypeError(
            f"model is {type(model).__name__}; expected a run's folder, a packed file, mm.load(run) or a module."
        )
    if device is not None:
        module.to(as_device(device))
    return module, about, precision


def _samples(inputs: Any, about: Data | None) -> Iterator[tuple[str, Tensor]]:
    """Named samples, as data have them: tensors of the shape of one."""
    if isinstance(inputs, np.ndarray | Tensor) or _is_numbers(inputs):
        try:
            samples = torch.as_tensor(inputs)
        except (TypeError, ValueError) as error:
            raise WrongTypeError(f"inputs are no array of numbers ({error}).") from None
        yield from _numbered(samples, about, "")
    elif isinstance(inputs, str | Path) and Path(inputs).is_dir():
        yield from _samples(picture_files(Path(inputs)), about)
    elif isinstance(inputs, str | Path) and Path(inputs).suffix == ".npy":
        yield from _numbered(_read_array(Path(inputs)), about, f"{inputs} ")
    elif isinstance(inputs, str | Path) or hasattr(inputs, "convert"):
        if about is None:
            raise MinimandError(
                "a module alone does not say how it takes images; expected data=, what it was trained on."
            )
        name = str(inputs) if isinstance(inputs, str | Path) else "image"
        yield name, read_picture(inputs, about, name)
    elif isinstance(inputs, Sequence):
        for i, part in enumerate(inputs):
            named = list(_samples(part, about))
            for name, sample in named:
                yield (name if isinstance(part, str | Path) else str(i) if len(named) == 1 else f"{i} {name}"), sample
    else:
        raise WrongTypeError(
            f"inputs are {type(inputs).__name__}; expected a tensor, an image, a file, a folder, or a list of them."
        )


def _is_numbers(inputs: Any) -> bool:
    """Whether inputs are numbers in lists."""
    while isinstance(inputs, list | tuple) and inputs:
        inputs = inputs[0]
    return isinstance(inputs, int | float)


def _numbered(samples: Tensor, about: Data | None, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if about is not None and tuple(samples.shape) == about.shape:
        samples = samples[None]
    if about is not None and tuple(samples.shape[1:]) != about.shape:
        shape = tuple(samples.shape)
        raise MinimandError(
            f"inputs have the shape {shape}; the model takes samples of the shape {about.shape}: expected "
            f"(N, {', '.join(map(str, about.shape))})."
        )
    if about is not None and (most := _beyond_one(samples, about)):
        raise MinimandError(
            f"inputs go up to {most:g}, and the model was trained on images from 0 to 1; expected bytes (uint8), or "
            "floats from 0 to 1."
        )
    for i, sample in enumerate(samples):
        yield f"{prefix}{i}", sample


def _beyond_one(samples: Tensor, about: Data) -> float:
    """The largest number of images that are no bytes, and far beyond those from 0 to 1 of the training; else 0."""
    is_of_ones = all(0 <= m <= 1 for m in about.mean) and all(0 < s <= 0.5 for s in about.std)
    if samples.dtype == torch.uint8 or len(about.shape) != 3 or not is_of_ones or samples.numel() == 0:
        return 0.0
    most = float(samples.max())
    return most if most > _BEYOND_ONE else 0.0


def _read_array(path: Path) -> Tensor:
    try:
        return torch.as_tensor(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {str(path)!r}.") from None
    except (ValueError, TypeError, EOFError) as error:
        raise MinimandError(f"{path} holds no array of numbers ({error}).") from None
