"""The recipe of Momentum Streams for language models: Muon with AdamW."""

from ..optimizers import AdamW, Muon
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import Cosine

_RATE, _RATE_OF_OTHERS, _RATE_OF_COEFFICIENTS = 0.02, 6e-4, 3e-3


@RECIPES.register("wu2026")
def wu2026(epochs: int = 1, batch_size: int = 480, lr: float = _RATE) -> Recipe:
    """Muon for the matrices of a language model, AdamW for the rest (Wu et al. 2026): TinyStories in large batches.

    A tenth of the steps warm up, a cosine ends at a tenth, gradients are clipped at 1; coefficients of skeletons have
    five times AdamW's rate. Theirs are 10,000 steps of 480 windows of 1,024 tokens; on OpenWebText `lr` is 0.004.
    """
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=Muon(lr, others=AdamW(_RATE_OF_OTHERS, betas=(0.9, 0.95), weight_decay=0.1)),
        schedule=Cosine(warmup=0.1, floor=0.1),
        clip=1.0,
        scalars=_RATE_OF_COEFFICIENTS / _RATE_OF_OTHERS,
    )
