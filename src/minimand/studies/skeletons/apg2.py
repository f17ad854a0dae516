"""ConvNeXt and ViT with and without APG2, Nesterov's method in its y form (Wu et al. 2024, tables 5 and 6)."""

from ...experiments import Cell, Scale, Study, rows
from ...experiments.trained import COLUMNS, ERROR, images, measure_classifier
from ...recipes import AdamW, Augmentation, Cosine, Recipe, as_config

# Drop-path, warm-up epochs, top-1 accuracy without APG2 in the repositories of Liu et al. 2022 and Touvron et al. 2021.
_PAPER = {
    "convnext_tiny": (0.1, 20, 82.1),
    "convnext_small": (0.4, 20, 83.1),
    "convnext_base": (0.5, 20, 83.8),
    "convnext_isotropic_small": (0.1, 50, 78.7),
    "convnext_isotropic_base": (0.2, 50, 82.0),
    "vit_small": (0.1, 50, 79.9),
    "vit_base": (0.1, 50, 81.8),
}
_SMALL = {
    "smoke": ("convnext_isotropic_small(width=8)", "vit_tiny(width=8, depth=2, heads=2, patch=8, image_size=32)"),
    "cpu": ("convnext_atto", "vit_tiny(width=96, depth=6, heads=3, patch=8, image_size=32)"),
}
_ALGORITHMS = ("gradient_descent", "nesterov_y(momentum=0.5)", "nesterov_y(momentum=0.9)")
_EPOCHS = 300


def _large(drop_path: float, warmup: int, model: str, algorithm: str) -> Cell:
    recipe = Recipe(
        _EPOCHS,
        4096,
        AdamW(4e-3, weight_decay=0.05),
        Cosine(warmup / _EPOCHS, floor=1e-6 / 4e-3),
        label_smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        ema=0.9999,
        precision="bf16",
        augmentation=Augmentation(flip=True, randaugment=9, erase=0.25),
    )
    name = f"{model}(drop_path={drop_path})"
    return {"network": model, "model": name, "algorithm": algorithm, "data": "imagenet", "recipe": as_config(recipe)}


def _small(scale: Scale, model: str, algorithm: str) -> Cell:
    epochs, augmentation = (5, Augmentation(pad=4, flip=True)) if scale == "cpu" else (1, Augmentation())
    recipe = Recipe(epochs, 64, AdamW(2e-3), Cosine(warmup=0.1), augmentation=augmentation)
    cell = {"network": model.partition("(")[0], "model": model, "algorithm": algorithm, **images(scale, 5_000)}
    return cell | {"enlarged": 4 if scale == "smoke" else 1, "recipe": as_config(recipe)}


def _cells(scale: Scale) -> list[Cell]:
    if scale == "paper":
        return [_large(drop, warm, model, a) for model, (drop, warm, _) in _PAPER.items() for a in _ALGORITHMS]
    return [_small(scale, model, algorithm) for model in _SMALL[scale] for algorithm in _ALGORITHMS]


def _published(cell: Cell) -> str:
    is_published = cell["algorithm"] == "gradient_descent" and cell["data"] == "imagenet"
    return f"{100 - _PAPER[cell['network']][2]:.1f}" if is_published else "unknown"


STUDY = Study(
    "apg2",
    "ConvNeXt and ViT with and without APG2 (Wu et al. 2024, tables 5 and 6)",
    "APG2 is taken to be Nesterov's method in its y form, the usual reading of the name; the paper's momentum is not "
    "known. At paper scale ImageNet with the recipe of ConvNeXt: AdamW at 4e-3, batches of 4,096, 300 epochs, 20 or 50 "
    "of warm-up, mixup 0.8, CutMix 1, RandAugment, random erasing 0.25, label smoothing 0.1, drop-path, a moving "
    "average of 0.9999; the published errors without APG2 are those of Liu et al. 2022 and Touvron et al. 2021. At cpu "
    "scale 5 epochs of the first 5,000 images of CIFAR-10, AdamW at 2e-3, batches of 64, shifts and flips, and the "
    "error on the first 2,000 test images; ConvNeXt sees them in 64 patches, the transformer (96 channels, 6 blocks) "
    "in 16.",
    ("wu2024optdnn", "liu2022convnext", "dosovitskiy2021vit", "touvron2021deit"),
    _cells,
    measure_classifier,
    ("network", "algorithm"),
    COLUMNS,
    _published,
    rows("Test error", ("network", "algorithm"), ERROR),
)
