"""OptDNNs wide and shallow, narrow and deep, and on DenseNet's blocks (Wu et al. 2024)."""

from collections.abc import Sequence

from ...experiments import Cell, Scale, Study, rows
from ...experiments.trained import COLUMNS, ERROR, images, measure_classifier
from ...recipes import SGD, Augmentation, Cosine, Recipe, as_config

_ALGORITHMS = (
    "gradient_descent",
    "heavy_ball(momentum=0.5)",
    "nesterov(momentum=0.5)",
    "nesterov_y(momentum=0.5)",
    "fista",
    "linearized_admm",
)


def _recipe(scale: Scale) -> Recipe:
    if scale == "paper":
        strong = Augmentation(pad=4, flip=True, randaugment=9, cutout=16)
        return Recipe(200, 128, SGD(), Cosine(), augmentation=strong)
    weak = Augmentation(pad=4, flip=True) if scale == "cpu" else Augmentation()
    return Recipe(5 if scale == "cpu" else 1, 64, SGD(0.05), Cosine(), augmentation=weak)


_SETTING = (
    "At paper scale 200 epochs of CIFAR-10 with SGD at 0.1, weight decay 5e-4, batches of 128 and a cosine, with "
    "strong augmentation: shifts, flips, RandAugment of magnitude 9 and Cutout of 16 pixels. At cpu scale 5 epochs of "
    "the first 4,000 images with batches of 64 at 0.05, shifts and flips; the error is that on the first 2,000 test "
    "images.\n\n"
    "The numbers of the paper's tables, its algorithms' coefficients, networks and recipe are not known here; all of "
    "the above is our choice."
)


def _study(
    name: str, title: str, about: str, full: Sequence[str], small: Sequence[str], algorithms: Sequence[str]
) -> Study:
    """A study of all algorithms on the `full` models at paper scale, of some on the `small` ones below."""

    def cells(scale: Scale) -> list[Cell]:
        paper = scale == "paper"
        return [
            {"model": model, "algorithm": algorithm, **images(scale, 4_000), "recipe": as_config(_recipe(scale))}
            for model in (full if paper else small)
            for algorithm in (_ALGORITHMS if paper else algorithms)
        ]

    labels = ("model", "algorithm")
    figures = rows("Test error", labels, ERROR)
    about = f"{about} {_SETTING}"
    return Study(name, title, about, ("wu2024optdnn",), cells, measure_classifier, labels, COLUMNS, figures=figures)


STUDY = _study(
    "optdnn",
    "Skeletons of wide and shallow and of narrow and deep networks, with error and FLOPs (Wu et al. 2024)",
    "Wide and shallow is WRN-28-4 (at cpu scale a pre-activation ResNet of 20 layers and 14 channels), narrow and deep "
    "the pre-activation ResNet of 110 layers (at cpu scale 56 layers and 8 channels, for about the same FLOPs). T is "
    "the branch of a block: the skeletons have the same blocks and FLOPs, but for linearized ADMM with two blocks a "
    "layer. WRN-16-4 is of no use here: two blocks a stage, of which the first changes the shape and is an ordinary "
    "residual one, leave the algorithm a single step, and nearly all algorithms begin alike.",
    ("wrn28_4", "preact_resnet110"),
    ("preact_resnet20(width=14)", "preact_resnet56(width=8)"),
    ("gradient_descent", "heavy_ball(momentum=0.5)", "nesterov_y(momentum=0.5)", "fista"),
)
DENSE_STUDY = _study(
    "optdnn_dense",
    "Skeletons on DenseNet's blocks (Wu et al. 2024)",
    "T fills one slot of a state that holds all features, so gradient descent is DenseNet and every other algorithm "
    "runs on the same blocks.",
    ("densenet40_12", "densenet_bc100_12"),
    ("densenet22_12(growth=4)",),
    ("gradient_descent", "heavy_ball(momentum=0.5)", "nesterov_y(momentum=0.5)"),
)
