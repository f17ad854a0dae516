"""HB-Net and AGD-Net against ResNet and DenseNet, table 3 of Li et al. 2018."""

from ...experiments import Cell, Scale, Study, rows
from ...experiments.trained import COLUMNS, ERROR, images, measure_classifier
from ...recipes import as_config
from ...recipes.registry import recipe

# Error in %: CIFAR-10, CIFAR-100, and both with augmentation.
_PUBLISHED = {
    "resnet56": (10.05, 39.65, 5.32, 26.03),
    "hb_net56": (10.17, 38.52, 5.46, 26.00),
    "resnet110": (9.17, 38.13, 5.06, 24.71),
    "hb_net110": (8.66, 36.40, 5.04, 23.93),
    "densenet40_12": (7.00, 27.55, 5.24, 24.42),
    "agd_net40_12": (6.44, 26.33, 5.20, 24.87),
    "densenet52_12": (6.05, 26.30, 5.09, 24.33),
    "agd_net52_12": (5.75, 24.92, 4.94, 23.84),
}
_SMALL = {
    "resnet20(width=8)": "resnet56",
    "hb_net20(width=8)": "hb_net56",
    "densenet22_12(growth=4)": "densenet40_12",
    "agd_net22_12(growth=4)": "agd_net40_12",
}
"""The networks that are trained at cpu scale, with the least network of the kind in the paper."""


def _cells(scale: Scale) -> list[Cell]:
    if scale == "paper":
        return [
            {
                "model": model,
                "on": name + mark,
                "data": name,
                "recipe": as_config(recipe("li2018", augmented=mark == "+")),
            }
            for mark in ("", "+")
            for name in ("cifar10", "cifar100")
            for model in _PUBLISHED
        ]
    cells: list[Cell] = []
    for model in _SMALL:
        train, epochs = (10_000, 8) if "width" in model else (5_000, 6)
        shown = images(scale, train)
        short = recipe("li2018", epochs=epochs if scale == "cpu" else 1, augmented=False)
        where = f"{shown['train']:,} of {shown['data']}"
        cells.append({"model": model, "on": where, **shown, "recipe": as_config(short)})
    return cells


def _published(cell: Cell) -> str:
    if cell["model"] in _SMALL:
        return f"{_PUBLISHED[_SMALL[cell['model']]][0]:.2f}"
    column = ("cifar10", "cifar100", "cifar10+", "cifar100+").index(cell["on"])
    return f"{_PUBLISHED[cell['model']][column]:.2f}"


STUDY = Study(
    "hb_agd",
    "HB-Net and AGD-Net against ResNet and DenseNet (Li et al. 2018, table 3)",
    "SGD with Nesterov momentum 0.9, weight decay 1e-4, batches of 64, learning rate 0.1 divided by 10 after half and "
    "three quarters of training, as published. At paper scale 300 epochs of CIFAR-10 and CIFAR-100, without and with "
    "(+) shifts and flips. At cpu scale nets of 20 and 22 layers, narrower, without augmentation: 8 epochs of 10,000 "
    "images for the first pair and 6 of 5,000 for the second, so rows are to be compared within a pair; the error is "
    "that on the first 2,000 test images, and the published number beside it that of the shallowest net of the kind, "
    "on all of CIFAR-10.\n\n"
    "What the paper leaves open is a choice said in the descriptions of the models: what a stage starts with, the "
    "weights a and their start, what transitions read.",
    ("li2018optimization", "he2016resnet", "huang2017densenet"),
    _cells,
    measure_classifier,
    ("model", "on"),
    COLUMNS,
    _published,
    rows("Test error", ("model", "on"), ERROR),
)
