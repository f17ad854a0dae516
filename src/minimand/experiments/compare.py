"""Algorithms side by side: same data, same blocks, several seeds."""

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._support.calls import file_name
from .._support.environment import as_device, default_device, environment
from .._support.errors import MinimandError, WrongTypeError
from .._support.files import write_whole
from .._support.tables import markdown, spread, table_text
from ..algorithms._algorithm import Algorithm
from ..algorithms._registry import as_algorithm, specification
from ..data.conversion import as_data
from ..data.data import Data
from ..models.network import UnrolledNetwork
from ..models.registry import create_for
from ..recipes.recipe import Recipe, default_recipe
from ..report.citing import bibliography
from ..report.explain import certify_model
from ..report.figures import COLORS, new_figure, plain
from ..report.page import Figures, write_page
from ..report.size import count_flops
from ..theory.certificate import Certificate
from ..theory.kernel import Binding
from ..training.fit import fit
from ..training.hooks.nonfinite import NonFiniteLossError
from ..training.loop.events import Callback
from ..training.loop.result import FitResult
from ..training.runs import fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Entry:
    """One algorithm's results over the seeds."""

    algorithm: str
    parameters: int
    flops: int | None
    """Of a forward pass of one sample."""
    accuracies: list[float]
    """Test accuracy by seed, 0 to 1; empty for a regression."""
    losses: list[float]
    """Test loss by seed."""
    seconds: list[float]
    """Of training, by seed."""
    histories: list[list[dict[str, Any]]] = field(repr=False)
    diverged: list[int] = field(default_factory=list)
    """The seeds whose loss became NaN or infinite; they are in none of the lists above."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` measured."""

    data: str
    model: str
    recipe: str
    seeds: list[int]
    environment: dict[str, Any]
    entries: list[Entry]
    certificates: dict[str, Certificate] = field(repr=False)

    @property
    def _has_accuracy(self) -> bool:
        return any(e.accuracies for e in self.entries)

    def columns(self) -> list[str]:
        """The heads of the table."""
        accuracy = ["test accuracy %"] if self._has_accuracy else []
        return ["algorithm", *accuracy, "test loss", "training s", "parameters", "MFLOPs"]

    def rows(self) -> list[list[str]]:
        """The table: mean and standard deviation over the seeds that did not diverge, and how many did."""
        found = []
        for e in self.entries:
            accuracy = [_over_seeds([100 * a for a in e.accuracies], 2)] if self._has_accuracy else []
            flops = "unknown" if e.flops is None else f"{e.flops / 1e6:.1f}"
            some = f" ({len(e.diverged)} of {len(self.seeds)} diverged)" if e.diverged and e.losses else ""
            seconds = f"{statistics.mean(e.seconds):.0f}" if e.seconds else "diverged"
            found.append([e.algorithm, *accuracy, _over_seeds(e.losses, 4) + some, seconds, f"{e.parameters:,}", flops])
        return found

    @property
    def note(self) -> str:
        """With what the table was made."""
        spread = "mean and standard deviation over seeds" if len(self.seeds) > 1 else "seed"
        seeds = ", ".join(map(str, self.seeds))
        where = f"{self.environment['hardware']}, torch {self.environment['torch']}, {self.environment['date']}"
        return f"{self.model} on {self.data}; {self.recipe}; {spread} {seeds}; {where}."

    def markdown(self) -> str:
        """The table in Markdown, with its note."""
        return f"{markdown(self.columns(), self.rows())}\n\n{self.note}\n"

    def plot(self) -> "Figure":
        """Test loss and accuracy over the epochs: the mean over seeds, and their range."""
        measures = [("test_loss", "test loss", 1.0)]
        if self._has_accuracy:
            measures.append(("test_accuracy", "test accuracy in %", 100.0))
        finished = [e for e in self.entries if e.histories]
        figure = new_figure(5 * len(measures), 3.2 + 0.2 * len(finished))
        for axes, (key, label, scale) in zip(
            figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True
        ):
            plain(axes)
            for e, color in zip(finished, COLORS * len(finished), strict=False):
                by_epoch = list(zip(*[[scale * r[key] for r in h] for h in e.histories], strict=True))
                epochs = range(1, len(by_epoch) + 1)
                axes.plot(epochs, [statistics.mean(v) for v in by_epoch], color=color, label=e.algorithm)
                axes.fill_between(
                    epochs, [min(v) for v in by_epoch], [max(v) for v in by_epoch], color=color, alpha=0.15
                )
            axes.set(xlabel="epoch", ylabel=label)
            axes.locator_params("x", integer=True)
        if finished:
            lines, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(lines, labels, loc="outside lower left", frameon=False, fontsize=8)
        return figure

    def __str__(self) -> str:
        return table_text(self.columns(), self.rows(), note=self.note)


def compare(
    algorithms: Sequence[Algorithm | str],
    data: Any = "digits",
    model: str = "resnet20",
    seeds: int = 3,
    recipe: Recipe | None = None,
    binding: Binding | None = None,
    run: str | Path = "runs/comparison",
    callbacks: Callable[[str], Sequence[Callback]] = lambda label: (),
    device: str | torch.device | None = None,
) -> Comparison:
    """Train the same model with each algorithm on the same data from the same weights, once for each seed.

    The folder holds a run for each, comparison.json, table.md, figure.svg and report.html. The same call on the
    same folder goes on where it was. A run whose loss becomes NaN or infinite is told as diverged.

    Args:
        algorithms: at least one; names with coefficients, or algorithms.
        data: as for `mm.fit`.
        model: a model's name, with settings if need be.
        seeds: how many; they are 0, 1, ...
        recipe: by default a short one that suits the data.
        binding: by default the model's own.
        run: where everything is kept.
        callbacks: makes the callbacks of each run from its label.
        device: by default a GPU where there is one, else the CPU.

    Raises:
        ValueError: no algorithms, or one given twice; nothing is trained then.
    """
    if isinstance(algorithms, str | Algorithm):
        raise WrongTypeError(f"algorithms is {algorithms!r}, a single one; expected a list: [{algorithms!r}].")
    if not algorithms:
        raise MinimandError("algorithms is empty; expected at least one.")
    if seeds < 1:
        raise MinimandError(f"seeds is {seeds}; expected at least 1.")
    data = as_data(data)
    where = default_device() if device is None else as_device(device)
    recipe = recipe or default_recipe(data, create_for(model, data.shape, data.num_outputs), where)
    # All are built and certified before the first is trained.
    chosen = _contestants(algorithms, lambda a: create_for(model, data.shape, data.num_outputs, a, binding))
    place = Path(run)
    entries, paths = [], []
    for contestant in chosen:
        results: list[FitResult] = []
        diverged = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            network = create_for(model, data.shape, data.num_outputs, contestant.algorithm, binding)
            run = place / f"{contestant.file_name}-seed{seed}"
            label = f"{contestant.label} seed {seed}"
            try:
                results.append(
                    fit(network, data, recipe=recipe, run=run, seed=seed, device=where, callbacks=callbacks(label))
                )
                paths.append((f"{run.name}/report.html", label))
            except NonFiniteLossError:
                diverged.append(seed)
        entries.append(_entry(contestant, results, diverged, data))
    comparison = Comparison(
        data.name,
        model,
        _described(recipe),
        list(range(seeds)),
        environment(where),
        entries,
        {contestant.label: contestant.certificate for contestant in chosen},
    )
    _keep(comparison, place, paths, bibliography(*[contestant.model for contestant in chosen], data))
    return comparison


@dataclass(frozen=True)
class _Contestant:
    """An algorithm with a model that it runs in, and what tells it from the others."""

    algorithm: Algorithm
    model: UnrolledNetwork
    certificate: Certificate
    fingerprint: str

    label: str = ""
    """Short, and no other's."""

    @property
    def file_name(self) -> str:
        return f"{file_name(specification(self.algorithm))}-{self.fingerprint[:8]}"


def _contestants(
    algorithms: Sequence[Algorithm | str], create: Callable[[Algorithm], UnrolledNetwork]
) -> list[_Contestant]:
    found: list[_Contestant] = []
    for given in algorithms:
        algorithm = as_algorithm(given)
        model = create(algorithm)
        print_ = str(fingerprint.of_model(model))
        if any((specification(c.algorithm), c.fingerprint) == (specification(algorithm), print_) for c in found):
            raise MinimandError(f"algorithms has {algorithm} twice; expected each once.")
        found.append(_Contestant(algorithm, model, certify_model(model), print_))
    names = Counter(str(c.algorithm) for c in found)
    return [replace(c, label=_label(c, alone=names[str(c.algorithm)] == 1)) for c in found]


def _label(contestant: _Contestant, alone: bool) -> str:
    """The algorithm; with its file and its fingerprint where another reads the same."""
    if alone:
        return str(contestant.algorithm)
    module = sys.modules.get(type(contestant.algorithm).__module__)
    file = Path(getattr(module, "__file__", None) or "").name
    return f"{contestant.algorithm} [{file} {contestant.fingerprint[:4]}]"


def _entry(contestant: _Contestant, results: Sequence[FitResult], diverged: list[int], data: Data) -> Entry:
    return Entry(
        contestant.label,
        sum(p.numel() for p in contestant.model.parameters()),
        count_flops(contestant.model, data.shape),
        [r.test_accuracy for r in results if r.test_accuracy is not None],
        [r.test_loss for r in results],
        [sum(record["seconds"] for record in r.history) for r in results],
        [r.history for r in results],
        diverged,
    )


def _keep(comparison: Comparison, place: Path, paths: list[tuple[str, str]], references: str) -> None:
    figures = Figures()
    curves = figures.embed(comparison.plot)
    if curves:
        comparison.plot().savefig(place / "figure.svg")
    write_whole(place / "table.md", comparison.markdown())
    results = {
        "data": comparison.data,
        "model": comparison.model,
        "recipe": comparison.recipe,
        "seeds": comparison.seeds,
        "environment": comparison.environment,
        "entries": [asdict(e) for e in comparison.entries],
        "certificates": {name: c.to_dict() for name, c in comparison.certificates.items()},
    }
    write_whole(place / "comparison.json", json.dumps(results, indent=1))
    content = {
        "title": f"{len(comparison.entries)} algorithms on {comparison.data}",
        "subtitle": "The same data, blocks and first weights; only the skeleton differs.",
        "columns": comparison.columns(),
        "rows": comparison.rows(),
        "note": comparison.note,
        "curves": curves,
        "certificates": [
            {"title": c.title, "rows": c.rows(), "figure": figures.embed(c.plot)}
            for c in comparison.certificates.values()
        ],
        "runs": paths,
        "bibliography": references,
        "missing": figures.missing,
    }
    write_page("comparison.html", place / "report.html", content)


def _over_seeds(values: Sequence[float], digits: int) -> str:
    return spread(values, digits) if values else "diverged"


def _described(recipe: Recipe) -> str:
    optimizer = type(recipe.optimizer).__name__
    return (
        f"{recipe.epochs} epochs of {optimizer} at {recipe.optimizer.lr:g}, {type(recipe.schedule).__name__}, "
        f"batches of {recipe.batch_size}"
    )
