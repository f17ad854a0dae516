"""CIFAR-100: 32 x 32 colour images of a hundred kinds of things (Krizhevsky 2009)."""

from ..data import Data
from ..images.hub import hub
from ..images.parquet import parquet
from ..images.splits import CROP_AND_FLIP
from ..info import data_set


@data_set("cifar100", "krizhevsky2009cifar")
def cifar100(data_folder: str | None = None) -> Data:
    """50,000 training and 10,000 test images (3, 32, 32) in 100 classes (Krizhevsky, 2009).

    Args:
        data_folder: the folder with train.parquet and test.parquet; by default the hub.
    """
    if data_folder is None:
        return hub("uoft-cs/cifar100", "cifar100", CROP_AND_FLIP)
    return parquet(data_folder, "cifar100", CROP_AND_FLIP)
