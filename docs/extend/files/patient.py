"""A recipe for small data sets: many epochs at a small rate."""

from minimand.recipes import AdamW, Cosine, Recipe
from minimand.recipes.registry import RECIPES


@RECIPES.register("patient")
def patient(epochs: int = 40, rate: float = 2e-3) -> Recipe:
    """Many epochs of AdamW at a small rate, and an average of the weights."""
    return Recipe(epochs, 64, AdamW(rate), Cosine(warmup=5 / epochs), ema=0.99)
