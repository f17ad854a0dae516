"""Networks of hard thresholds on CIFAR-10: the activation, and the loss and the targets of its units."""

import torch
from torch import nn

from ...data import Data
from ...experiments import Bench, Cell, Scale, Study, Values, rows
from ...experiments.trained import ACCURACY, LOSS, images, train
from ...layers import QuantizedReLU, Sign
from ...models import convnet4, convnet8, create_for
from ...recipes import Adam, Augmentation, Recipe, StepDecay, as_config
from ...surgery import harden
from ...training import Backpropagation, Method, TargetPropagation

_RULES: dict[str, Method] = {
    "linear (straight-through)": TargetPropagation("linear"),
    "saturated hinge": TargetPropagation("saturated_hinge"),
    "soft hinge": TargetPropagation("soft_hinge"),
    "soft hinge, searched targets": TargetPropagation("soft_hinge", targets="search"),
    "soft hinge, targets by beam": TargetPropagation("soft_hinge", targets="beam"),
    "backpropagation": Backpropagation(),
}
_SEARCHED = ("soft hinge, searched targets", "soft hinge, targets by beam")
# convnet4 and convnet8, as recalled of the paper.
_PUBLISHED = {
    ("sign", "saturated hinge"): (80.6, 84.6),
    ("sign", "soft hinge"): (81.3, 84.9),
    ("quantized ReLU", "saturated hinge"): (85.6, 88.4),
    ("quantized ReLU", "soft hinge"): (85.5, 89.8),
    ("ReLU", "backpropagation"): (86.5, 91.2),
    ("saturated ReLU", "backpropagation"): (87.3, 91.2),
}
# Of the tables of thresholds:
LABELS, COLUMNS = ("network", "activation", "rule"), (ACCURACY, LOSS)
draw = rows("Test accuracy", LABELS, ACCURACY)


def activations_and_rules() -> list[tuple[str, str]]:
    """The rows of a table for one network, without searches."""
    hinges = ("saturated hinge", "soft hinge")
    return [
        *(("sign", rule) for rule in ("linear (straight-through)", *hinges)),
        *(("quantized ReLU", rule) for rule in hinges),
        *((activation, "backpropagation") for activation in ("ReLU", "saturated ReLU")),
    ]


def _cells(scale: Scale) -> list[Cell]:
    rate = 2.5e-4 if scale == "paper" else 1e-3
    widths, epochs, decay, at = {
        "smoke": ((2,), 1, 0.0, (0.67,)),
        "cpu": ((16, 16, 8), 5, 0.0, (0.6, 0.8)),
        "paper": ((32, 48, 64), 300, 5e-4, (2 / 3, 5 / 6)),
    }[scale]
    augmentation = Augmentation(pad=4, flip=True) if scale == "paper" else Augmentation()
    cells = []
    for network, width in zip(("convnet4", "convnet8", "ResNet"), widths, strict=False):
        adam = Adam(rate if network == "convnet4" else 1e-3, weight_decay=decay)
        recipe = as_config(Recipe(epochs, 64, adam, StepDecay(at), augmentation=augmentation))
        searches = [("sign", rule) for rule in _SEARCHED]
        if scale == "cpu":  # a search costs 5 to 30 times the steps
            searches = searches[:1] if network == "convnet4" else []
        cells += [
            {"network": network, "width": width, "blocks": 8 if scale == "paper" else 3}
            | {"activation": activation, "rule": rule}
            | {**images(scale, 2_000), "enlarged": 4 if scale == "smoke" else 1, "recipe": recipe}
            for activation, rule in [*activations_and_rules(), *searches]
        ]
    return sorted(cells, key=lambda cell: cell["rule"] in _SEARCHED)  # what takes longest comes last


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    if cell["network"] == "ResNet":
        name = "cifar_resnet18" if cell["blocks"] == 8 else f"resnet20(width={cell['width']}, depth={cell['blocks']})"
        model: nn.Module = create_for(name, data.shape, data.num_outputs)
    else:
        create = convnet4 if cell["network"] == "convnet4" else convnet8
        model = create(data.num_outputs, data.shape[0], cell["width"])
    activate(model, cell["activation"])
    return train_by_rule(model, data, cell, seed, bench, resume=cell["data"] == "cifar10")


def train_by_rule(
    model: nn.Module, data: Data, cell: Cell, seed: int, bench: Bench, resume: bool
) -> dict[str, float | None]:
    """Test accuracy and loss of a model that is trained by the rule of its cell."""
    result = train(model, data, cell, seed, bench, resume, _RULES[cell["rule"]])
    return {"accuracy": result.test_accuracy, "loss": result.test_loss}


def activate(model: nn.Module, activation: str, steps: int = 3) -> None:
    """Put an activation of the table in the place of a model's ReLUs; a quantized one has so many steps."""
    if activation in ("sign", "quantized ReLU"):
        harden(model, Sign() if activation == "sign" else QuantizedReLU(steps + 1))
    elif activation == "saturated ReLU":
        for name in [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]:
            model.set_submodule(name, nn.Hardtanh(0.0, 1.0))


def _published(cell: Cell) -> str:
    row = _PUBLISHED.get((cell["activation"], cell["rule"]))
    if row is None or cell["network"] == "ResNet":
        return "none"
    return f"{row[0 if cell['network'] == 'convnet4' else 1]} (recalled)"


STUDY = Study(
    "thresholds",
    "Hard thresholds on CIFAR-10: losses and targets of their units (Friesen & Domingos 2018)",
    "Networks whose activations are signs or quantized ReLUs of four levels, trained by `mm.TargetPropagation`, beside "
    "ReLUs and ReLUs cut off at 1. The linear loss is straight-through, the saturated hinge its saturated form, the "
    "soft hinge the paper's choice; searched targets are those of them that, tried out, lower the loss of the layers "
    "above, four forward passes a threshold and step. At paper scale the settings are those of the published code: "
    "Adam, decay in the gradient, batches of 64, 300 epochs, the rate times 0.1 after 200 and 250, shifts and flips; "
    "its decay is on biases and normalization too, ours is not, and its ResNet was trained on ImageNet only. At cpu "
    "scale the networks are narrow (16 channels in the first layer of the convnets, 8 in that of the ResNet, which has "
    "three blocks), and see the first 2,000 images for 5 epochs at a rate of 0.001, without augmentation and decay; "
    "accuracy is that on the first 2,000 test images.\n\n"
    "The published accuracies are the best over all epochs and recalled, not read again; ours are those at the end.",
    ("friesen2018", "zhou2016dorefa"),
    _cells,
    _measure,
    LABELS,
    COLUMNS,
    _published,
    draw,
)
