"""Models of timm with and without momentum between their blocks."""

from typing import Any

import torch

from ..._support.torch.torchvision import require_timm
from ...experiments import Bench, Cell, Column, Scale, Study, Values, rows
from ...experiments.trained import COLUMNS, ERROR, images, train_classifier
from ...networks import skeletons
from ...recipes import SGD, AdamW, Augmentation, Cosine, Recipe, as_config
from ...surgery import rewire

_MOMENTA = (0.0, 0.3, 0.6)
_SMALL: dict[str, dict[str, Any]] = {
    "resnet34": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 4},
}
_PAPER = ("resnet50", "convnext_tiny", "vit_small_patch16_224")


def _recipe(scale: Scale, model: str) -> Recipe:
    if scale == "paper":
        augmentation = Augmentation(flip=True)
        tuned = AdamW(5e-5, weight_decay=1e-8) if "resnet" not in model else SGD(1e-3, weight_decay=1e-4)
        return Recipe(10, 256, tuned, Cosine(warmup=0.1), precision="bf16", augmentation=augmentation)
    epochs, augmentation = (4, Augmentation(pad=4, flip=True)) if scale == "cpu" else (1, Augmentation())
    optimizer = SGD(0.05) if "resnet" in model else AdamW(1e-3)
    return Recipe(epochs, 64, optimizer, Cosine(warmup=0.1), augmentation=augmentation)


def _cells(scale: Scale) -> list[Cell]:
    models = {name: {"pretrained": True} for name in _PAPER} if scale == "paper" else _SMALL
    shown = {"data": "imagenet"} if scale == "paper" else images(scale, 5_000)
    return [
        {"model": model, "momentum": momentum, "settings": settings, **shown}
        | {"enlarged": 4 if scale == "smoke" else 1, "recipe": as_config(_recipe(scale, model))}
        for model, settings in models.items()
        for momentum in _MOMENTA
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    timm = require_timm()
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    settings = cell["settings"] | {"in_chans": data.shape[0], "num_classes": data.num_outputs}
    model = rewire(timm.create_model(cell["model"], **settings), f"heavy_ball(momentum={cell['momentum']})")
    return {"rewired": sum(run.depth for run in skeletons(model)), **train_classifier(model, data, cell, seed, bench)}


STUDY = Study(
    "rewired",
    "Models of timm with and without momentum between their blocks",
    "`mm.rewire` puts heavy ball around the blocks that stand in a row and keep their shape, counted in the last "
    "column; with momentum 0 the model computes what timm's computes. At paper scale timm's pretrained weights are "
    "rewired and trained on ImageNet for 10 epochs more at a small learning rate: with momentum above 0 the network is "
    "another one, and has to recover. At cpu scale the models are trained from the start: 4 epochs of the first 5,000 "
    "images of CIFAR-10, batches of 64, SGD at 0.05 or AdamW at 1e-3, shifts and flips; the error is that on the first "
    "2,000 test images; the transformer has 4 blocks and patches of 8 pixels.",
    ("li2018optimization", "sander2021momentum"),
    _cells,
    _measure,
    ("model", "momentum"),
    (*COLUMNS, Column("rewired", "blocks rewired", 0)),
    published=None,
    figures=rows("Test error", ("model", "momentum"), ERROR),
)
