"""Training and test samples with what a person and a model need to know about them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from .._support.errors import MinimandError, WrongTypeError
from ..recipes.augmentation import Augmentation
from .batches import Batch, each
from .samples import WHOLE, Arrays, Items, Samples, class_range
from .text.tokenizers import Tokenizer, digest_of
from .text.windows import Windows

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Text:
    """What is known of samples that are windows of a text: inputs (T,) are token ids, targets the tokens that follow.

    They are judged by their loss, in nats a token, not by the share of right guesses.
    """

    tokenizer: Tokenizer
    bytes_per_token: float
    """Bytes of the test part, in UTF-8, for each of its tokens."""
    characters_per_token: float

    def measures(self, loss: float) -> dict[str, float | None]:
        """A loss in nats a token as bits a byte and nats a character, which do not depend on the tokens."""
        nats_per_byte = loss / self.bytes_per_token
        return {
            "bits_per_byte": nats_per_byte / math.log(2),
            "nats_per_character": loss / self.characters_per_token,
        }

    def fits(self, other: "Text | None") -> bool:
        """Whether a model of this text can read another one: whether both have the same tokens."""
        return other is not None and digest_of(self.tokenizer) == digest_of(other.tokenizer)


@dataclass(frozen=True)
class Data:
    """Named training and test samples, perhaps with a validation part.

    Inputs are images (C, H, W), as bytes or as floats from 0 to 1, vectors (d,), windows of a text (T,), or several
    tensors in a tuple or dictionary. Targets are classes from 0, or vectors (outputs,) for a regression; dense ones
    have one for each place.
    """

    name: str
    train: Samples
    test: Samples
    """The samples to judge by; `NoSamples()` where there are none."""
    shape: tuple[int, ...]
    """The shape of a sample; of several inputs that of the first."""
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    outputs: int = 1
    """The length of a target of a regression."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    """Per channel, on the scale from 0 to 1; the models see inputs less the mean, over the deviation."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What training does to images unless a recipe says otherwise."""
    references: tuple[str, ...] = ()
    """The keys of the sources of the data in references.bib."""
    source: str = ""
    """The file, folder or hub where the samples were read."""
    loaded: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of `load_data` that give the same samples again; none for samples that a caller gave."""
    validation: Samples | None = None
    """The samples that training is watched by, where the data bring a part for it."""
    integers: bool = False
    """Whether inputs that are integers, but for bytes of images, stay integers, as token ids have to."""
    notes: tuple[str, ...] = ()
    """What was left out, set aside or assumed when the samples were read, a sentence each."""
    text: Text | None = None
    """The tokenizer, where samples are windows of a text; the classes are its tokens then."""

    @property
    def num_outputs(self) -> int:
        """The length of a model's output."""
        return len(self.classes) if self.task == "classification" else self.outputs

    @property
    def is_text(self) -> bool:
        """Whether samples are windows of a text, which language models take."""
        return self.text is not None

    @property
    def judged_by_accuracy(self) -> bool:
        """Whether the share of right classes says how well a model does, beside its loss; of a text it does not."""
        return self.task == "classification" and self.text is None

    def prepare(self, inputs: Any) -> Any:
        """What a model sees: floats, normalized; images in channels-last layout. (N, ...) to (N, ...).

        Token ids stay integers (`integers`), bytes of images do not. Of several inputs each keeps its kind, and none is
        normalized.
        """
        if not isinstance(inputs, Tensor):
            return each(_plain, inputs)
        if self.integers and not inputs.is_floating_point() and not _is_image(inputs):
            return inputs.long()
        inputs = inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs.float()
        mean, std = _constants(self.mean, self.std, inputs.ndim, inputs.device)
        inputs = (inputs - mean) / std
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs

    def example(self, device: torch.device | str = "cpu", count: int = 4) -> Any:
        """The example batch: the first `count` test samples, or training samples, as a model on a device has them."""
        samples = self.test if len(self.test) else self.train
        x, _ = next(iter(as_prepared(self, samples, torch.device(device)).batches(count)))
        return x

    def check_classes(self, targets: Tensor) -> None:
        """Raise MinimandError unless the targets are classes of this data, or NO_CLASS where they are dense."""
        low, high = class_range(targets)
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise MinimandError(
                f"{self.name} has a sample of class {wrong}; expected 0 to {len(self.classes) - 1}. The classes are "
                "counted from 0, and the training samples have to show the highest."
            )

    def for_model(self, model: nn.Module) -> "Data":
        """The data as a model needs them: integers stay integers for one that looks them up in an embedding.

        Raises MinimandError for a text and a model without one.
        """
        embeds = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
        if self.text is not None and not embeds:
            raise MinimandError(
                f"{self.name} is a text, and {type(model).__name__} has no embedding that looks tokens up; expected a "
                f"language model of {self.num_outputs} tokens, such as gpt_nano."
            )
        return replace(self, integers=True) if embeds and not self.integers else self

    def __str__(self) -> str:
        parts = {"to train": self.train, "for validation": self.validation or (), "to test": self.test}
        counts = [f"{len(samples):,} {purpose}" for purpose, samples in parts.items() if len(samples)]
        if self.text is not None:
            return self._about_text(counts)
        total, kind = sum(map(len, parts.values())), "images" if len(self.shape) == 3 else "samples"
        what = f"{len(self.classes)} classes" if self.task == "classification" else f"regression to {self.outputs}"
        shape = f" of {' x '.join(map(str, self.shape))}" if self.shape else ""
        return f"{self.name}: {total:,} {kind}{shape}, {what}, {', '.join(counts)}, from {self.source}"

    def _about_text(self, counts: list[str]) -> str:
        assert self.text is not None
        every = [part for part in (self.train, self.validation, self.test) if isinstance(part, Windows)]
        length = f"{sum(len(part.tokens) for part in every):,} tokens" if every else "a text"
        kinds = f"{self.num_outputs:,} different ones ({self.text.tokenizer.name})"
        return f"{self.name}: {length}, {kinds}, in windows of {self.shape[0]}: {', '.join(counts)}, from {self.source}"


def _plain(x: Tensor) -> Tensor:
    """One of several inputs as a model sees it: bytes of images from 0 to 1, other integers as they are."""
    if _is_image(x):
        x = x.float().div_(255)
    return x.float() if x.is_floating_point() else x


def _is_image(x: Tensor) -> bool:
    """Whether a batch is one of images as bytes, (N, C, H, W)."""
    return x.dtype == torch.uint8 and x.ndim == 4


@lru_cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], ndim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    shape = (1, -1) + (1,) * (ndim - 2) if ndim > 1 else (-1,)
    # Tensors of inference mode cannot be used in training, where these are used again.
    with torch.inference_mode(False):
        return torch.tensor(mean, device=device).view(shape), torch.tensor(std, device=device).view(shape)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, C, H, W) bytes, on the scale from 0 to 1."""
    n = images.numel() // images.shape[1]
    mean, std = [], []
    for c in range(images.shape[1]):
        counts = torch.bincount(images[:, c].flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.double) / 255
        m = float(counts @ values) / n
        mean.append(m)
        std.append(max(float(counts @ (values - m) ** 2) / n, 1e-12) ** 0.5)
    return in_single_precision(mean), in_single_precision(std)


def in_single_precision(values: Any) -> tuple[float, ...]:
    """Statistics (c,) in the precision that samples are normalized in.

    The last digits of a sum in doubles depend on the processor, and a run has to go on upon another one.
    """
    return tuple(torch.as_tensor(values, dtype=torch.float32).tolist())


def image_data(
    name: str, train: Arrays, test: Arrays, classes: tuple[str, ...], augmentation: Augmentation, source: str
) -> Data:
    """Data of images in memory, normalized by the mean and the deviation of the training images."""
    mean, std = channel_statistics(train.inputs)
    shape = tuple(train.inputs.shape[1:])
    return Data(name, train, test, shape, classes=classes, mean=mean, std=std, augmentation=augmentation, source=source)


@dataclass(frozen=True, eq=False)
class PreparedSamples:
    """Samples whose batches are ready for a model: on its device, augmented if asked, normalized; classes as int64."""

    data: Data
    samples: Samples
    device: torch.device
    augmentation: Augmentation | None = None
    """Random changes of each batch of images; None for none."""
    check: bool = True
    """Whether the classes of each batch are checked, for samples that nobody has looked at before."""
    seed: int = 0
    """The seed that alternating flips follow from."""
    epoch: Callable[[], int] = lambda: 0
    """A function that tells the epoch, when batches are asked for."""
    is_prepared: ClassVar = True

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        # Called now, not when the first batch is asked for: a loader may draw random numbers.
        raw_batches = self.samples.batches(size, seed, first, share)
        epoch = self.epoch()
        return (self._prepare(inputs, targets, epoch) for inputs, targets in raw_batches)

    def count(self, size: int, shuffled: bool) -> int:
        return self.samples.count(size, shuffled)

    def to(self, device: torch.device) -> "PreparedSamples":
        return replace(self, samples=self.samples.to(device), device=device)

    def _prepare(self, inputs: Any, targets: Tensor, epoch: int) -> Batch:
        is_classification = self.data.task == "classification"
        if self.check and is_classification:
            self.data.check_classes(targets)
        x, y = each(lambda x: x.to(self.device), inputs), targets.to(self.device)
        if self.augmentation is not None and isinstance(x, Tensor) and x.ndim == 4 and y.ndim < 3:
            x = self.augmentation(x, epoch, self.seed)
        return self.data.prepare(x), y.long() if is_classification else y


def as_prepared(data: Data, samples: Any, device: torch.device) -> Any:
    """Samples with prepared batches, not augmented; those that are prepared already as they are."""
    return samples if getattr(samples, "is_prepared", False) else PreparedSamples(data, samples, device)


def hold_out(data: Data, share: float, seed: int) -> Data:
    """The data with a random share of its training samples in place of the test samples, which stay unseen.

    Of a text it is the end of the training part, so that no window reads what another one is judged by.

    Raises:
        MinimandError: too few samples for both parts. WrongTypeError: samples that come in somebody else's batches.
    """
    n = len(data.train)
    if isinstance(data.train, Windows):
        rest, aside = data.train.held_out(share)
        return replace(data, train=rest, test=aside, loaded={})
    count = round(share * n)
    if not 0 < count < n:
        raise MinimandError(
            f"{data.name} has {n} training samples; expected at least {-(-1 // share):.0f}, of which a share of "
            f"{share:g} can be held out."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return replace(data, train=_chosen(data.train, order[count:]), test=_chosen(data.train, order[:count]), loaded={})


def _chosen(samples: Samples, indices: Tensor) -> Samples:
    if isinstance(samples, Arrays):
        return Arrays(*samples[indices.to(samples.targets.device)])
    if isinstance(samples, Items):
        return Items(Subset(samples.dataset, indices.tolist()), samples.workers)
    raise WrongTypeError(
        f"the training samples are a {type(samples).__name__}, which is read in its own order; expected tensors or a "
        "data set that is indexed, of which a part can be held out."
    )
