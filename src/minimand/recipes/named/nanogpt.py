"""The recipe of nanoGPT for a small language model on a CPU."""

from ..optimizers import AdamW
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import Cosine

_STEPS = 2000
_WARMUP = 100  # steps, of the _STEPS in all


@RECIPES.register("nanogpt")
def nanogpt(epochs: int = 8, batch_size: int = 12) -> Recipe:
    """AdamW from 1e-3 to 1e-4 along a cosine, warmed up, clipped (Karpathy 2022): Tiny Shakespeare on a CPU.

    Eight epochs are its 2,000 steps where the data are `tinyshakespeare(windows=3000)`: batches of 12 windows of 64
    characters. Known to differ: the warm-up begins at a tenth of the rate, and windows are drawn without repetition.
    """
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=AdamW(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
        schedule=Cosine(warmup=_WARMUP / _STEPS, floor=0.1),
        clip=1.0,
        precision="fp32",
    )
