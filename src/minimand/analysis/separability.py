"""How well classes can be told apart at each layer, as a table and a picture."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .._support.style import BLUE, GRID, INK, RED, new_figure
from .._support.tables import table_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ProbeKind = Literal["linear", "cnn"]
"""A kind of probe: one-vs-rest logistic regression on the 2 x 2 average, or a convolutional classifier."""


@dataclass(frozen=True)
class LayerSeparability:
    """How well a probe tells the classes apart from the features of one layer; accuracies from 0 to 1."""

    layer: int
    """The number of the layer, counted from 1."""
    shape: tuple[int, ...]
    """The shape of the features of one sample."""
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class SeparabilityByLayer:
    """How well probes tell the classes apart at each layer of a network: the result of `mm.probe`."""

    model: str
    data: str
    kind: ProbeKind
    hidden_layers: int
    layers: tuple[LayerSeparability, ...]
    unconverged: tuple[int, ...] = ()
    """Layers whose logistic regression stopped before its end."""

    references: ClassVar = ("belilovsky2019greedy",)

    @property
    def probe(self) -> str:
        """The probes that were fitted, in words."""
        if self.kind == "linear":
            return "linear probes"
        return f"probes of {self.hidden_layers} hidden layer{'s' if self.hidden_layers > 1 else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The separability as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = []
        for x in self.layers:
            accuracies = (f"{100 * accuracy:.2f}" for accuracy in (x.train_accuracy, x.test_accuracy))
            rows.append([str(x.layer), " x ".join(map(str, x.shape)), *accuracies])
        unconverged = ", ".join(map(str, self.unconverged))
        note = f"Logistic regression did not converge at layer {unconverged}." if unconverged else ""
        columns = ["layer", "shape", "train accuracy %", "test accuracy %"]
        return f"{self.model} on {self.data}, {self.probe}\n{table_text(columns, rows, note=note, labels=2)}"

    def plot(self) -> "Figure":
        """The accuracy over the layers as a figure, on training samples dashed (extra `plots`)."""
        figure = new_figure(5, 3.2)
        axes = figure.subplots()
        numbers = [x.layer for x in self.layers]
        axes.plot(numbers, [100 * x.train_accuracy for x in self.layers], ".--", color=RED, label="train")
        test = [100 * x.test_accuracy for x in self.layers]
        axes.plot(numbers, test, "o-", color=BLUE, markersize=4, label="test")
        axes.set_title(f"{self.model} on {self.data}, {self.probe}", fontsize=9, color=INK)
        axes.set(xlabel="layer", ylabel="accuracy in %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.locator_params("x", integer=True)
        axes.legend(frameon=False, fontsize=8)
        return figure
