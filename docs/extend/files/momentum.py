"""How much momentum a skeleton should have, on the digits."""

from minimand.experiments.study import STUDIES, Bench, Cell, Column, Scale, Study
from minimand.experiments.trained import ERROR, measure_classifier
from minimand.recipes import AdamW, Cosine, Recipe
from minimand.recipes.recipe import as_config


def _cells(scale: Scale) -> list[Cell]:
    """A row of the table for each cell: plain values, all that decides the number."""
    samples, epochs, momenta = (100, 1, (0.0, 0.9)) if scale == "smoke" else (None, 10, (0.0, 0.3, 0.6, 0.9))
    recipe = as_config(Recipe(epochs, 64, AdamW(lr=0.005), Cosine()))
    cell = {"data": "digits", "train": samples, "model": "mlp(width=32, depth=6)", "recipe": recipe}
    return [{**cell, "momentum": m, "algorithm": f"heavy_ball(momentum={m})"} for m in momenta]


def _measure(cell: Cell, seed: int, bench: Bench) -> dict[str, float]:
    """The numbers of a cell, by the keys of the columns."""
    return measure_classifier(cell, seed, bench)


MOMENTUM = STUDIES.add(
    "momentum",
    Study(
        "momentum",
        title="How much momentum on the digits",
        about="Six two-layer blocks wired by heavy ball, ten epochs of AdamW. Nothing of the sort is published.",
        references=(),
        cells=_cells,
        measure=_measure,
        labels=("momentum",),
        columns=(ERROR, Column("loss", "test loss", 3)),
        published=None,
    ),
)
