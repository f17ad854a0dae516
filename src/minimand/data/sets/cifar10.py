"""CIFAR-10: 32 x 32 colour images of ten kinds of animals and vehicles (Krizhevsky 2009)."""

from ..data import Data
from ..files.parquet import parquet
from ..hub import hub
from ..registry import data_set


@data_set("cifar10", "krizhevsky2009cifar")
def cifar10(data_folder: str | None = None) -> Data:
    """50,000 training and 10,000 test images (3, 32, 32) in 10 classes (Krizhevsky, 2009).

    They are read from train.parquet and test.parquet in `data_folder`, by default from the hub.
    """
    return hub("uoft-cs/cifar10", "cifar10") if data_folder is None else parquet(data_folder, "cifar10")
