"""Parquet files of a folder."""

from pathlib import Path

from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data
from .splits import CROP_AND_FLIP, datasets_library, from_splits


def parquet(
    data_folder: str, name: str = "", augmentation: Augmentation = CROP_AND_FLIP, image_size: int | None = None
) -> Data:
    """The data in Parquet files train*.parquet and test*.parquet of a folder, in the layout of `datasets`."""
    place = Path(data_folder)
    files = {split: sorted(map(str, place.glob(f"**/{split}*.parquet"))) for split in ("train", "test", "validation")}
    if not files["train"]:
        raise FileNotFoundError(f"no train*.parquet in {data_folder!r}; expected train.parquet and test.parquet.")
    present = {split: names for split, names in files.items() if names}
    try:
        splits = datasets_library().load_dataset("parquet", data_files=present)
    except Exception as error:
        raise MinimandError(
            f"cannot read the Parquet files of {data_folder!r}: {str(error).splitlines()[0]}"
        ) from error
    return from_splits(splits, name or place.name, str(place), augmentation, image_size)
