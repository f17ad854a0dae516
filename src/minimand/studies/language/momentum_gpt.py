"""Momentum in language models, taken apart: recurrence, normalization of what is added, second embedding, tied head."""

from dataclasses import replace
from typing import Any, cast

import torch

from ...data.data import Text
from ...experiments import Bench, Cell, Claim, Column, DecisiveStudy, Scale, Trials, Values
from ...experiments.deciding.judged import train_judged
from ...experiments.trained import PARAMETERS
from ...models import create_model
from ...recipes import AdamW, Cosine, Recipe, as_config, from_config
from ...recipes.named.wu2026 import wu2026

CORPORA = {"TinyStories": ("roneneldan/TinyStories", 10, 0.02), "OpenWebText": ("Skylion007/openwebtext", 30, 0.004)}
"""The texts of the papers: the data set of the hub, the thousands of steps, and Muon's rate."""
_RATES = (2e-3, 4e-3, 8e-3, 16e-3)
_STEPS, _STEPS_OF_A_TRIAL, _BATCH = 800, 250, 32
_LEARNED = "step_size=Learnable(0.6931, 0, 4), momentum=Learnable(0.5, 0, 1), lookahead=0"
_HEAVY_BALL = f"general_momentum({_LEARNED})"
_OWN_VELOCITY = f"general_momentum({_LEARNED}, first_velocity='own')"
_HB_FORMER = "yurii_former(lookahead=0, first_velocity='{}')"
_VANILLA, _SCALED, _RECURRENT = "vanilla", "scale alone", "recurrence"
_ADDED, _EMBEDDED, _BOTH = "normalized branches", "second embedding", "both, no recurrence"
_NORMALIZED, _WITH_OWN, _ALL, _YURII = "recurrence, normalized", "recurrence, own velocity", "HBFormer", "YuriiFormer"
_INPUT, _VELOCITY_OF_INPUT = "normalized input", "HBFormer, the input as velocity"

# Recurrence, normalization of what is added, second embedding: each in turn, then all together.
_FACTORS: dict[str, dict[str, Any]] = {
    _VANILLA: {"algorithm": "gradient_descent"},
    _ADDED: {"algorithm": "gradient_descent", "normalize_branches": True},
    _EMBEDDED: {"algorithm": "gradient_descent", "embedding": "sum"},
    _BOTH: {"algorithm": "gradient_descent", "embedding": "normalized_sum", "normalize_branches": True},
    _RECURRENT: {"algorithm": _HEAVY_BALL},
    _NORMALIZED: {"algorithm": _HB_FORMER.format("zero")},
    _WITH_OWN: {"algorithm": _OWN_VELOCITY},
    _ALL: {"algorithm": _HB_FORMER.format("own")},
}
_UNTIED = (_VANILLA, _BOTH, _RECURRENT, _ALL)
_CONTROLS: dict[str, dict[str, Any]] = {
    _SCALED: {"algorithm": "gradient_descent(step_size=Learnable(1.3862, 0, 8))"},
    _INPUT: {"algorithm": "gradient_descent", "embedding": "normalized"},
    _VELOCITY_OF_INPUT: {"algorithm": _HB_FORMER.format("input")},
    _YURII: {"algorithm": "yurii_former"},
}


def language_cell(scale: Scale, corpus: str = "TinyStories") -> dict[str, Any]:
    """The settings of a cell that say what is trained on which text; the corpus is that of the papers' scale."""
    if scale == "paper":
        text, thousands, rate = CORPORA[corpus]
        papers = replace(wu2026(thousands, 8, rate), accumulate=60, precision="bf16", compile=True)
        options = {"tokens": "bpe(50257)", "context": 1024, "windows": 480_000, "test_windows": 1_280}
        return _cell(768, 12, 12, text, options, papers)
    ours = Recipe(
        1,
        4 if scale == "smoke" else _BATCH,
        AdamW(4e-3, betas=(0.9, 0.95), weight_decay=0.1),
        Cosine(warmup=0.055, floor=0.1),
        clip=1.0,
        scalars=5.0,
    )
    if scale == "smoke":
        return _cell(8, 1, 4, "python_stdlib", {"context": 8, "windows": 16, "test_windows": 8}, ours)
    return _cell(64, 12, 4, "bible", {"context": 64, "windows": _BATCH * _STEPS}, ours)


def _cell(width: int, depth: int, heads: int, data: str, text: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    model = f"gpt_nano(width={width}, depth={depth}, context={text['context']}, heads={heads})"
    return {"model": model, "data": data, "text": text, "recipe": as_config(recipe)}


def _cells(scale: Scale) -> list[Cell]:
    arms = [("tied", arm, settings) for arm, settings in (_FACTORS | _CONTROLS).items()]
    arms += [("untied", arm, _FACTORS[arm]) for arm in _UNTIED]
    if scale == "smoke":
        arms = [entry for entry in arms if entry[:2] in (("tied", _VANILLA), ("tied", _ALL), ("untied", _VANILLA))]
    if scale == "paper":
        return [
            {"group": f"{corpus}, {head}", "arm": arm, "settings": settings | {"tied": head == "tied"}}
            | language_cell(scale, corpus)
            for corpus in CORPORA
            for head, arm, settings in arms
        ]
    return [
        {"group": head, "arm": arm, "settings": settings | {"tied": head == "tied"}, **language_cell(scale)}
        for head, arm, settings in arms
    ]


def trials_of_rates(cell: Cell, scale: Scale) -> Trials:
    """Four learning rates on a third of the windows, or around the papers' in a thousand steps; none at smoke scale."""
    if scale == "smoke":
        return Trials([{"rate": 4e-3}])
    if scale == "paper":
        published = from_config(cell["recipe"]).optimizer.lr
        return Trials([{"rate": published * factor} for factor in (0.5, 1.0, 2.0)], {"epochs": 1})
    windows = {"windows": _BATCH * _STEPS_OF_A_TRIAL, "test_windows": 2_000}
    return Trials([{"rate": rate} for rate in _RATES], {"text": cell["text"] | windows})


def measure_language_model(cell: Cell, seed: int, bench: Bench) -> Values:
    """Train the language model of a cell and measure its loss, in nats a character of the test windows."""
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    settings = {"num_tokens": data.num_outputs, **cell["settings"]}
    model = create_model(cell["model"], settings.pop("algorithm"), **settings)
    values = train_judged(model, data, cell, seed, bench)
    characters = cast(Text, data.text).characters_per_token
    curve = {"curve": [loss / characters for loss in values["curve"]]} if "curve" in values else {}
    return {**values, "loss": values["loss"] / characters, **curve}


LOSS_PER_CHARACTER = Column("loss", "nats a character", 4)
"""The column that language models of characters are judged by."""


STUDY = DecisiveStudy(
    "momentum_gpt",
    "Momentum in language models, taken apart",
    "YuriiFormer and Momentum Streams report that a transformer whose layers carry a velocity learns more than one "
    "whose layers do not. The velocity comes with two other changes: what is added to the stream is normalized, and "
    "the first velocity is an embedding of its own, which at this normalization takes the place of the input. Here "
    "each of the three is off or on with the head tied to the table of tokens, and four of the eight with a head of "
    "its own; and four controls that were missing: the branches scaled as heavy ball's gains scale them, without a "
    "recurrence; a normalized input; the input as first velocity; and YuriiFormer with its look-ahead. Coefficients "
    "are learned, one for each half step, from the published starts; attention and map take turns (Lie-Trotter).\n\n"
    f"The King James Bible by characters (63 symbols), 12 layers of 64, context 64, batches of {_BATCH}, AdamW with "
    "betas of 0.9 and 0.95, decay 0.1, warm-up, cosine to a tenth, scalars at five times the rate: "
    f"{_STEPS} steps judged, after {_STEPS_OF_A_TRIAL} at each of four rates on a held-out part. The second table is "
    "8,000 of 608,000 parameters, so width or depth for the same parameters is no control that is needed here. The "
    "best n-gram of characters has 1.318 nats on this test part: nets above it, as these are, are compared by how fast "
    "they learn, not by what they end at.\n\n"
    "At paper scale TinyStories and OpenWebText with the papers' size, context, batch, steps and Muon, by 50,257 byte "
    "pairs of each text's own; never run here.",
    ("zimin2026yuriiformer", "wu2026momentum"),
    _cells,
    measure_language_model,
    ("group", "arm"),
    (LOSS_PER_CHARACTER, PARAMETERS),
    claims=(
        Claim(f"{_YURII} learns more than {_VANILLA}", _YURII, _VANILLA, "lower", "zimin2026yuriiformer"),
        Claim(f"{_ALL} learns more than {_VANILLA}", _ALL, _VANILLA, "lower", "wu2026momentum"),
        Claim(f"{_ALL} learns more than {_BOTH}: momentum is the source", _ALL, _BOTH, "lower", "wu2026momentum"),
        Claim(f"{_BOTH} learns more than {_VANILLA}", _BOTH, _VANILLA, "lower"),
        Claim(f"{_RECURRENT} learns more than {_VANILLA}", _RECURRENT, _VANILLA, "lower", "wu2026momentum"),
        Claim(f"{_RECURRENT} learns more than {_SCALED}", _RECURRENT, _SCALED, "lower"),
        Claim(f"{_INPUT} is as good as {_VANILLA}", _INPUT, _VANILLA, "equal"),
    ),
    trials=trials_of_rates,
    better="lower",
    unit="nats a character",
    margin=0.01,
    seeds=5,
)
