"""How well classes can be told apart at each layer, as a table and a picture."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .._support.style import BLUE, GRID, INK, RED, new_figure
from .._support.tables import table_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["linear", "cnn"]
"""One-vs-rest logistic regression on the 2 x 2 average; a convolutional classifier."""


@dataclass(frozen=True)
class LayerSeparability:
    """How well a probe tells the classes apart from what one layer gives; accuracies from 0 to 1."""

    layer: int
    """Counted from 1."""
    shape: tuple[int, ...]
    """Of one sample of what is read there."""
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Separability:
    """What `mm.probe` found at each layer of a network."""

    model: str
    data: str
    kind: Kind
    hidden_layers: int
    layers: tuple[LayerSeparability, ...]
    unconverged: tuple[int, ...] = ()
    """Layers whose logistic regression stopped before its end."""

    references: ClassVar = ("belilovsky2019greedy",)

    @property
    def probe(self) -> str:
        """What was fitted, in words."""
        plural = "s" * (self.hidden_layers > 1)
        return "linear probes" if self.kind == "linear" else f"probes of {self.hidden_layers} hidden layer{plural}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            [
                str(x.layer),
                " x ".join(map(str, x.shape)),
                f"{100 * x.train_accuracy:.2f}",
                f"{100 * x.test_accuracy:.2f}",
            ]
            for x in self.layers
        ]
        stopped = ", ".join(map(str, self.unconverged))
        note = f"Logistic regression did not converge at layer {stopped}." if stopped else ""
        columns = ["layer", "shape", "train accuracy %", "test accuracy %"]
        return f"{self.model} on {self.data}, {self.probe}\n{table_text(columns, rows, note=note, labels=2)}"

    def plot(self) -> "Figure":
        """Accuracy over the layers, training dashed (extra `plots`)."""
        figure = new_figure(5, 3.2)
        axes = figure.subplots()
        at = [x.layer for x in self.layers]
        axes.plot(at, [100 * x.train_accuracy for x in self.layers], ".--", color=RED, label="train")
        axes.plot(at, [100 * x.test_accuracy for x in self.layers], "o-", color=BLUE, markersize=4, label="test")
        axes.set_title(f"{self.model} on {self.data}, {self.probe}", fontsize=9, color=INK)
        axes.set(xlabel="layer", ylabel="accuracy in %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.locator_params("x", integer=True)
        axes.legend(frameon=False, fontsize=8)
        return figure
