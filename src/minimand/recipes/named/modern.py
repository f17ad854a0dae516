"""The recipe of today's vision models, for small data."""

from ..augmentation import Augmentation
from ..optimizers import AdamW
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import Cosine

_WARMUP = 5  # epochs, or a tenth of training if that is less


@RECIPES.register("modern")
def modern(epochs: int = 100, batch_size: int = 128) -> Recipe:
    """AdamW, warm-up and cosine, label smoothing, mixup or CutMix, RandAugment, erasing, averaged weights.

    As DeiT (Touvron et al. 2021) and ConvNeXt (Liu et al. 2022) train on ImageNet, for small images and batches: the
    rate is 1e-3 at 128 images and grows with the root of the batch (theirs is linear: 4e-3 at 4,096), images are
    shifted by 4 pixels instead of cropped at random sizes, and the average reaches back 500 steps (theirs 10,000).
    Images need 1 or 3 channels; RandAugment takes the extra `vision`.
    """
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=AdamW(lr=1e-3 * (batch_size / 128) ** 0.5, weight_decay=0.05),
        schedule=Cosine(warmup=min(_WARMUP / epochs, 0.1), floor=1e-3),
        label_smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        ema=0.998,
        augmentation=Augmentation(pad=4, flip=True, randaugment=9, erase=0.25),
    )
