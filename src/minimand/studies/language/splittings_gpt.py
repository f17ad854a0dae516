"""The four ways to cut a transformer layer into steps of heavy ball."""

from ...experiments import Cell, Claim, DecisiveStudy, Scale
from ...experiments.trained import PARAMETERS
from .momentum_gpt import LOSS_PER_CHARACTER, language_cell, measure_language_model, trials_of_rates

_TURNS, _SUM, _HALVES, _WHOLE = "lie_trotter", "euler", "strang", "whole"
_ALGORITHM = "heavy_ball(momentum=Learnable(0.5, 0, 1))"


def _cells(scale: Scale) -> list[Cell]:
    splittings = (_TURNS, _WHOLE) if scale == "smoke" else (_TURNS, _SUM, _HALVES, _WHOLE)
    return [
        {"arm": splitting, "settings": {"algorithm": _ALGORITHM, "splitting": splitting}, **language_cell(scale)}
        for splitting in splittings
    ]


STUDY = DecisiveStudy(
    "splittings_gpt",
    "The ways to cut a transformer layer into steps",
    "Heavy ball with a learned momentum around the branches of a layer: attention and map in turns (lie_trotter), "
    "their sum (euler), half of attention, the map, and half of attention again with the same weights (strang), "
    "and the residual layer as one block (whole). Gradient descent is the same network under the first and the last. "
    "Text, size and training are those of the study `momentum_gpt`.",
    ("zimin2026yuriiformer",),
    _cells,
    measure_language_model,
    ("arm",),
    (LOSS_PER_CHARACTER, PARAMETERS),
    claims=(
        Claim(f"{_TURNS} is as good as {_SUM}", _TURNS, _SUM, "equal"),
        Claim(f"{_TURNS} is as good as {_HALVES}", _TURNS, _HALVES, "equal"),
        Claim(f"{_TURNS} is as good as {_WHOLE}", _TURNS, _WHOLE, "equal"),
    ),
    trials=trials_of_rates,
    better="lower",
    unit="nats a character",
    margin=0.01,
    seeds=5,
)
