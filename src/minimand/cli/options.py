"""Types of options, those that several commands share, and their checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from .._support.errors import MinimandError

# An option that is left out is None; what that means is in its text.
Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Decimal = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Pair = Annotated[tuple[float, float] | None, arg(metavar="X X", help_behavior_hint="")]
Device = Annotated[Text, arg(help="The device, such as cuda; by default a GPU where there is one, else the CPU.")]
DataFolder = Annotated[Text, arg(help="The folder where the files of a named data set are, such as cifar10's.")]
OfOwn = Annotated[Text, arg(help="Needed if the run's algorithm is your own: path/to/file.py:MyMethod.")]
OwnModel = Annotated[
    Text, arg(help="Needed if the run's model is your own: path/to/file.py:Net, with arguments as in Net(width=64).")
]
Plot = Annotated[Text, arg(help="Write the figure to this file.")]
Quiet = Annotated[bool, arg(help="Print the result and nothing before it.")]
Output = Annotated[str, arg(aliases=["-o"])]
Binding = Annotated[Literal["residual", "operator"] | None, arg(metavar="{residual,operator}", help_behavior_hint="")]
Precision = Annotated[Literal["auto", "fp32", "bf16"] | None, arg(metavar="{auto,fp32,bf16}", help_behavior_hint="")]
Parallel = Annotated[Literal["ddp", "fsdp"] | None, arg(metavar="{ddp,fsdp}", help_behavior_hint="")]

Jobs = Annotated[Whole, arg(help="The most trainings at a time, in processes of their own that share the cores; 1 by "
                            "default, and with --engine as many as it has room for.")]  # fmt: skip
Engine = Annotated[
    Literal["ray"] | None,
    arg(
        help="What spreads trainings over machines: ray, the cluster of RAY_ADDRESS, or a new one on this machine.",
        metavar="{ray}",
        help_behavior_hint="",
    ),
]


@dataclass(frozen=True)
class TrainingOptions:
    """The options that every command that trains has."""

    data: Text = None
    """A named data set; a table (.csv, .parquet) or arrays (.npz); a folder of such files or of images by class; a text
    file or a folder of texts; or owner/name on the hub. By default Fashion-MNIST if it is on the machine, else the
    digits; for a language model the sources of Python's library."""
    data_folder: DataFolder = None
    model: Text = None
    """A named model, with settings as in "mlp(width=32)"; or your own: path/to/file.py:Net, a class or function that
    makes one. By default resnet20, mlp for vectors, or gpt_nano for text."""
    binding: Binding = None
    """How a block becomes a gradient; by default what the model is known for."""
    recipe: Text = None
    """How the model is trained, by name, as in "airbench" or "modern(epochs=20)" (minimand list recipes); the options
    below change it. By default a short recipe that suits the data."""
    epochs: Whole = None
    """Passes over the training samples; by default few for large data and more for small."""
    batch_size: Whole = None
    """Samples in an update; 128 by default."""
    accumulate: Whole = None
    """Batches whose gradients are summed in one update; 1 by default."""
    validation: Decimal = None
    """The share of the training samples that is evaluated after each epoch and not trained on; 0 by default."""
    early_stopping: Whole = None
    """Epochs without a lower validation loss after which training stops, with the best weights; 0, never, by
    default."""
    lr: Decimal = None
    """The highest learning rate; by default what suits the model."""
    optimizer: Text = None
    """The optimizer by name, with settings if need be, as in "sgd(momentum=0.95)"; by default what suits the model."""
    weight_decay: Decimal = None
    """The weight decay of the optimizer; by default its own."""
    schedule: Text = None
    """How the learning rate changes, as in "cosine(warmup=0.1)"; by default what suits the model."""
    augmentation: Text = None
    """Random changes of images, as in "pad=4, flip=True", or none; by default what suits the data."""
    label_smoothing: Decimal = None
    """The share of each target that is spread over all classes; 0 by default."""
    mixup: Decimal = None
    """The parameter of mixup, which averages pairs of samples; 0, none, by default."""
    cutmix: Decimal = None
    """The parameter of CutMix, which pastes a part of one image into another; 0, none, by default."""
    ema: Decimal = None
    """The decay per step of the moving average of weights that is evaluated; 0, none, by default."""
    clip: Decimal = None
    """The norm that gradients are scaled down to; 0, none, by default."""
    precision: Precision = None
    """The precision of the passes; auto, the default, is bf16 (autocast) for images where the hardware is fast at it,
    and fp32 elsewhere."""
    device: Device = None
    compile: bool = False
    """Compile the model by torch.compile before it is trained."""
    quiet: Quiet = False
    config: Text = None
    """A YAML file of options by name, such as "epochs: 5"; or the config.yaml of a run, whose options and recipe are
    taken. Options of the command line come before it."""


def check_file(option: str, path: str | None) -> None:
    """Raise MinimandError, before the work, for a file that could not be written."""
    if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise MinimandError(f"{option} is {path!r}; expected a file in a folder that exists.")


@contextmanager
def resumable(how: str = "the same command goes on where it was") -> Iterator[None]:
    """A block of work in which an interrupt says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None
