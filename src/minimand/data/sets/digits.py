"""Handwritten digits of 8 x 8 pixels, which scikit-learn brings along."""

from typing import Any

import torch

from ...recipes.augmentation import Augmentation
from ..data import Data, image_data
from ..registry import data_set
from ..samples import Arrays


@data_set("digits", "alpaydin1998digits")
def digits() -> Data:
    """1,437 training and 360 test images (1, 8, 8) of the digits 0 to 9; the split is fixed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch: Any = load_digits()
    images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    targets = torch.from_numpy(bunch.target).long()
    train, test = train_test_split(range(len(targets)), test_size=0.2, random_state=0, stratify=bunch.target)
    parts = [Arrays(images[part], targets[part]) for part in (train, test)]
    return image_data("digits", parts[0], parts[1], tuple("0123456789"), Augmentation(pad=1), "scikit-learn")
