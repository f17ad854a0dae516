"""Commands that read what there is: runs, algorithms, names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from .._support.errors import MinimandError
from .._support.tables import make_table
from ..theory.kernel import Binding
from .options import Pair, Text, Whole


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the last checkpoint of a run on its test samples; or a packed file on those of some data."""

    run: Positional[str]
    """The run's folder, or a file that `minimand pack` wrote."""
    data: Text = None
    """For a packed file: a named data set, a folder, or owner/name on the hub."""
    data_folder: Text = None
    """For a packed file: where the files of a named data set are, such as cifar10's."""
    algorithm: Text = None
    """Needed if the run's algorithm is your own: path/to/file.py:MyMethod."""
    device: Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""

    def __call__(self, console: Console) -> None:
        from .._support.environment import as_device, default_device
        from ..experiments.reopen import reopen
        from ..training.loop.evaluate import evaluate

        if Path(self.run).is_file():
            self._evaluate_packed(console)
            return
        opened = reopen(self.run, self.algorithm)
        step, problems = opened.load_trained()
        for problem in problems:
            console.print(f"note: {problem} The one before it is used.", highlight=False)
        data, model = opened.data, opened.model.to(as_device(self.device) if self.device else default_device())
        found = evaluate(model, data, loss=opened.loss, precision=opened.recipe.precision)
        _print_evaluation(console, found, data, [["step", f"{step:,}"]])

    def _evaluate_packed(self, console: Console) -> None:
        from ..data.registry import load_data
        from ..inference.packed import load_packed
        from ..training.loop.evaluate import evaluate

        packed = load_packed(self.run)
        if self.data is None:
            raise MinimandError("data is None; a packed file does not say what it was trained on: expected --data.")
        data = load_data(self.data, **({"data_folder": self.data_folder} if self.data_folder else {}))
        _print_evaluation(console, evaluate(packed, data), data, [])


@dataclass(frozen=True)
class Certify:
    """Certify algorithms: consistency, stability, order, gains, inverse, universality."""

    algorithm: Positional[tuple[str, ...]]
    """Names, with coefficients if need be, or path/to/file.py:MyMethod."""
    depth: int = 20
    """Layers."""
    binding: Binding = "residual"
    """How a block becomes a gradient."""
    width: Whole = None
    """Of the state."""
    d_in: Whole = None
    """The length of the input."""
    d_out: Whole = None
    """The length of the output."""
    rate: Pair = None
    """MU L: also find the worst case over MU-strongly convex, L-smooth functions."""
    plot: Text = None
    """Write the poles, gains and wiring of each algorithm to this folder."""

    def __call__(self, console: Console) -> None:
        from .._support.calls import file_name
        from ..algorithms._registry import as_algorithm, specification
        from ..theory.certificate import certify

        if not self.algorithm:
            raise MinimandError(
                "no algorithm to certify; expected names (minimand list algorithms) or file.py:MyMethod."
            )
        taken: set[str] = set()
        for i, algorithm in enumerate(map(as_algorithm, self.algorithm)):
            found = certify(algorithm, self.depth, self.binding, self.width, self.d_in, self.d_out, rate=self.rate)
            if i:
                console.print()
            console.print(make_table(["", "", ""], found.rows(), found.title))
            if self.plot:
                folder = Path(self.plot)
                folder.mkdir(parents=True, exist_ok=True)
                whole = specification(algorithm)
                short = file_name(whole.partition("(")[0])
                name = file_name(whole) if short in taken else short
                taken.add(name)
                path = folder / f"{name}.svg"
                found.plot().savefig(path)
                console.print(f"figure: {path}", highlight=False)


@dataclass(frozen=True)
class List:
    """List what there is."""

    what: Positional[Literal["algorithms", "models", "data"]]

    def __call__(self, console: Console) -> None:
        from ..algorithms._registry import builtin
        from ..data.registry import list_data
        from ..models.info import model_info
        from ..models.registry import list_models

        if self.what == "algorithms":
            rows = [[name, _first_line(cls.__doc__)] for name, cls in builtin.items()]
        elif self.what == "models":
            rows = [[name, model_info(name).description] for name in list_models()]
        else:
            rows = [[name, line] for name, line in list_data().items()]
        console.print(make_table(["name", "description"], rows))


@dataclass(frozen=True)
class Cite:
    """Print the BibTeX of algorithms, models and data sets, or of what a run used."""

    things: Positional[tuple[str, ...]]
    """Names, or folders of runs."""

    def __call__(self, console: Console) -> None:
        from ..experiments.reopen import used_by
        from ..report.citing import cite

        things: list[Any] = []
        for thing in self.things:
            things += used_by(thing) if Path(thing).is_dir() else [thing]
        cite(*things)


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _print_evaluation(console: Console, found: Any, data: Any, more: list[list[str]]) -> None:
    rows = [
        ["samples", f"{len(data.test):,} of {data.name}"],
        *more,
        ["loss", f"{found.loss:.4f}"],
    ]
    if found.accuracy is not None and found.confusion is not None:
        rows.append(["accuracy", f"{100 * found.accuracy:.2f} %"])
        for i, name in enumerate(data.classes):
            rows.append([f"  {name}", f"{100 * found.confusion[i][i] / max(sum(found.confusion[i]), 1):.2f} %"])
    console.print(make_table(["", ""], rows))
