"""Data sets of the Hugging Face hub."""

from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data
from .splits import CROP_AND_FLIP, datasets_library, from_splits


def hub(
    repository: str, name: str = "", augmentation: Augmentation = CROP_AND_FLIP, image_size: int | None = None
) -> Data:
    """A data set of the Hugging Face hub with an image and a label column."""
    datasets = datasets_library()
    try:
        splits = datasets.load_dataset(repository)
    except Exception as error:  # the library raises its own, httpx's and the file system's errors
        raise MinimandError(
            f"cannot load {repository!r} from the hub ({type(error).__name__}: {str(error).splitlines()[0]}). Without "
            "a network, name a folder that holds the data."
        ) from error
    return from_splits(splits, name or repository, f"the hub ({repository})", augmentation, image_size)
