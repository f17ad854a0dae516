"""What a comparison of algorithms measured, as a table, a figure and files."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..._support.files import write_whole
from ..._support.sealed import sealed_json
from ..._support.style import COLORS, Figure, draw_mean_and_range, legend_below, literal, new_figure, plain
from ..._support.tables import markdown, spread, table_html, table_text
from ...report import Figures, write_page
from ...theory import Certificate
from ..statistics.held_out import HELD_OUT
from ..statistics.paired import CONFIDENCE, PairedDifference, corrected
from ..statistics.verdict import verdict
from .budget import Budget
from .tuning import Tried, at_the_edge

ABOUT_DIFFERENCES = (
    "Paired by seed: Student's intervals; p of no difference after Holm's correction over the algorithms; what is "
    "excluded, and p of equality, by two one-sided t tests, not corrected. Where seeds would show something, they do "
    "so four times in five."
)
"""The note below a table of differences."""


@dataclass(frozen=True)
class ComparisonEntry:
    """The results of one algorithm in a `Comparison`, over the seeds."""

    algorithm: str
    parameters: int
    flops: int | None
    """Floating-point operations of a forward pass of one sample; None where they cannot be counted."""
    accuracies: list[float]
    """The test accuracy by seed, 0 to 1; empty for a regression."""
    losses: list[float]
    """The test loss at the end of training, by seed."""
    seconds: list[float]
    """The seconds of each training, by seed."""
    histories: list[list[dict[str, Any]]] = field(repr=False)
    """The records of all epochs, by seed."""
    diverged: list[int] = field(default_factory=list)
    """The seeds whose loss became NaN or infinite; the other lists leave them out."""
    tried: list[Tried] = field(default_factory=list)
    """The learning rates, and momenta, that were tried, with their scores on held-out data; empty without tuning."""
    chosen: Tried | None = None
    """The best of those; None without tuning."""
    epochs: int = 0
    """The epochs that each training of the arm had."""
    cost: float | None = None
    """The FLOPs of an epoch, or its seconds in one thread, where these were made equal; None for equal steps."""


@dataclass(frozen=True)
class Comparison:
    """Algorithms trained on the same data from the same weights: what `mm.compare` measured."""

    data: str
    model: str
    recipe: str
    seeds: list[int]
    environment: dict[str, Any]
    entries: list[ComparisonEntry]
    certificates: dict[str, Certificate] = field(repr=False)
    budget: Budget = "steps"
    """What the trainings of all algorithms have in common: steps, time or FLOPs."""
    margin: float | None = None
    """The difference that counts as none, in points of accuracy or in the loss of a regression; None if none does."""
    hypothesis: str = ""
    """What was expected, as it was written before the first training."""

    @property
    def _is_tuned(self) -> bool:
        return any(e.tried for e in self.entries)

    @property
    def _has_accuracy(self) -> bool:
        return any(e.accuracies for e in self.entries)

    def columns(self) -> list[str]:
        """The column heads of the table."""
        accuracy = ["test accuracy %"] if self._has_accuracy else []
        chosen = ["chosen"] if self._is_tuned else []
        spent = {"steps": [], "time": ["epochs", "planned s"], "flops": ["epochs", "training TFLOPs"]}[self.budget]
        return ["algorithm", *accuracy, "test loss", *chosen, *spent, "training s", "parameters", "MFLOPs"]

    def rows(self) -> list[list[str]]:
        """A row for each algorithm: mean and deviation over the seeds that did not diverge, and how many did."""
        rows = []
        for e in self.entries:
            accuracy = [_over_seeds([100 * a for a in e.accuracies], 2)] if self._has_accuracy else []
            flops = "unknown" if e.flops is None else f"{e.flops / 1e6:.{1 if e.flops >= 1e6 else 4}f}"
            lost = f" ({len(e.diverged)} of {len(self.seeds)} diverged)" if e.diverged and e.losses else ""
            seconds = f"{statistics.mean(e.seconds):.0f}" if e.seconds else "diverged"
            chosen = [str(e.chosen)] if self._is_tuned else []
            unit = 1.0 if self.budget == "time" else 1e12
            spent = [] if e.cost is None else [str(e.epochs), f"{e.epochs * e.cost / unit:.3g}"]
            loss = _over_seeds(e.losses, 4) + lost
            rows.append([e.algorithm, *accuracy, loss, *chosen, *spent, seconds, f"{e.parameters:,}", flops])
        return rows

    @property
    def note(self) -> str:
        """A sentence on the model, data, recipe, seeds and machine behind the table."""
        statistic = "mean and standard deviation over seeds" if len(self.seeds) > 1 else "seed"
        seeds = ", ".join(map(str, self.seeds))
        where = f"{self.environment['hardware']}, torch {self.environment['torch']}, {self.environment['date']}"
        return f"{self.model} on {self.data}; {self.recipe}; {statistic} {seeds}; {where}. {self._how}{self.verdict}"

    @property
    def _how(self) -> str:
        expected = f"Expected before: {self.hypothesis.rstrip('.')}. " if self.hypothesis else ""
        return f"{self._spending}{self._tuning}{expected}"

    @property
    def _spending(self) -> str:
        """A sentence on what was made equal by other numbers of epochs, and how closely; empty for equal steps."""
        spent = [e.epochs * e.cost for e in self.entries if e.cost is not None]
        if not spent:
            return ""
        spending = {
            "time": "Time in one thread, measured before, is that",
            "flops": "Training FLOPs, counted, are those",
        }
        off = max(abs(value / spent[0] - 1) for value in spent)
        return f"{spending[self.budget]} of the first algorithm to {off:.0%}, by whole epochs. "

    @property
    def _tuning(self) -> str:
        """A sentence on how learning rates were chosen, and where they may not be the best; empty without tuning."""
        if not self._is_tuned:
            return ""
        edge = [e.algorithm for e in self.entries if e.chosen and at_the_edge(e.chosen, e.tried)]
        beyond = f" The best of {' and '.join(edge)} is at the edge of those tried." if edge else ""
        tries = len(self.entries[0].tried)
        what = "Rates and momenta" if self.entries[0].tried[0].momentum is not None else "Learning rates"
        return (
            f"{what}, not the recipe's, were chosen among {tries} on {HELD_OUT:.0%} of the training samples.{beyond} "
        )

    @property
    def differences(self) -> dict[str, PairedDifference]:
        """How far each algorithm is from the first, paired by seed, p values after Holm's correction.

        In points of accuracy, or of a regression in test loss; without algorithms that have not two seeds in common.
        """
        measured = [self._by_seed(entry) for entry in self.entries]
        pairs = {}
        for entry, values in zip(self.entries[1:], measured[1:], strict=True):
            common = [seed for seed in values if seed in measured[0]]
            if len(common) > 1:
                arms = [[arm[seed] for seed in common] for arm in (values, measured[0])]
                pairs[entry.algorithm] = PairedDifference.of(*arms)
        return dict(zip(pairs, corrected(list(pairs.values())), strict=True))

    def _by_seed(self, entry: ComparisonEntry) -> dict[int, float]:
        """Accuracies in percent, or losses where there are none, by the seeds that did not diverge."""
        finished = [seed for seed in self.seeds if seed not in entry.diverged]
        values = [100 * a for a in entry.accuracies] if self._has_accuracy else entry.losses
        return dict(zip(finished, values, strict=True))

    def difference_columns(self) -> list[str]:
        """The column heads of the table of differences."""
        what = "accuracy, points" if self._has_accuracy else "test loss"
        equality = [] if self.margin is None else ["p of equality"]
        interval = f"{CONFIDENCE:.0%} interval"
        return [f"less {self.entries[0].algorithm}", "it differs", what, interval, "p", *equality, "excluded beyond"]

    def difference_rows(self) -> list[list[str]]:
        """A row for each algorithm but the first: the verdict, its difference, interval, p, and what is excluded."""
        rows = []
        for name, difference in self.differences.items():
            mean, p = self._signed(difference.mean), f"{difference.p:.2g}"
            equality = [] if self.margin is None else [f"{difference.equality_p(self.margin):.2g}"]
            interval, beyond = "no spread", ""
            if difference.has_spread:  # equal differences at all seeds have no interval
                interval = " to ".join(map(self._signed, difference.interval))
                beyond = self._size(difference.excluded_beyond)
            rows.append([name, self._verdict(difference), mean, interval, p, *equality, beyond])
        return rows

    def _verdict(self, difference: PairedDifference) -> str:
        unit = " points" if self._has_accuracy else ""
        return verdict(difference, "different", self.margin, lambda size: f"{self._size(size)}{unit}")

    def _size(self, size: float) -> str:
        return f"{size:.{2 if self._has_accuracy else 4}f}"

    def _signed(self, difference: float) -> str:
        return f"{difference:+.{2 if self._has_accuracy else 4}f}"

    @property
    def verdict(self) -> str:
        """What the seeds show of differences from the first algorithm, and of which algorithms they cannot tell."""
        if len(self.entries) < 2:
            return "There is nothing to compare with."
        differences, first = self.differences, self.entries[0].algorithm
        if len(self.seeds) < 2:
            return "One training of an algorithm shows no spread: any difference may be luck."
        untold = [e.algorithm for e in self.entries[1:] if e.algorithm not in differences]
        few = f"{' and '.join(untold)} cannot be compared with {first}: too many trainings diverged."
        if not differences:
            return few
        by_verdict: dict[str, list[str]] = {}
        for name, difference in differences.items():
            by_verdict.setdefault(self._verdict(difference), []).append(name)
        words = "; ".join(f"{' and '.join(names)}: {verdict}" for verdict, names in by_verdict.items())
        shown = f"A difference from {first}: {words}."
        return f"{shown} {few}" if untold else shown

    def markdown(self) -> str:
        """The table and its note in Markdown."""
        differences = self.difference_rows()
        below = f"\n{markdown(self.difference_columns(), differences, 2)}\n" if differences else ""
        return f"{markdown(self.columns(), self.rows())}\n\n{self.note}\n{below}"

    def plot(self) -> Figure:
        """Test loss and accuracy over the epochs, or over an equal budget: the mean over seeds, and their range."""
        measures = [("test_loss", "test loss", 1.0)]
        if self._has_accuracy:
            measures.append(("test_accuracy", "test accuracy in %", 100.0))
        finished = [e for e in self.entries if e.histories]
        figure = new_figure(5 * len(measures), 3.2 + 0.2 * len(finished))
        panels = figure.subplots(1, len(measures), squeeze=False)[0]
        for axes, (key, label, scale) in zip(panels, measures, strict=True):
            plain(axes)
            for e, color in zip(finished, COLORS * len(finished), strict=False):
                by_epoch = list(zip(*[[scale * r[key] for r in h] for h in e.histories], strict=True))
                length = 1 if self.budget == "steps" else len(by_epoch)
                x = [(k + 1) / length for k in range(len(by_epoch))]
                draw_mean_and_range(axes, x, by_epoch, color, literal(e.algorithm), style="-", alpha=0.15)
            axes.set(xlabel="epoch" if self.budget == "steps" else "share of the budget", ylabel=label)
            if self.budget == "steps":
                axes.locator_params("x", integer=True)
        if finished:
            legend_below(figure)
        return figure

    def __str__(self) -> str:
        text, differences = table_text(self.columns(), self.rows(), note=self.note), self.difference_rows()
        if not differences:
            return text
        below = table_text(self.difference_columns(), differences, note=ABOUT_DIFFERENCES, labels=2)
        return f"{text}\n\n{below}"

    def __repr__(self) -> str:
        return f"<comparison of {len(self.entries)} algorithms on {self.data}, {len(self.seeds)} seeds>"

    def _repr_html_(self) -> str:
        return table_html(self.columns(), self.rows(), note=self.note)

    def write(self, folder: Path, run_pages: Sequence[tuple[str, str]], references: str) -> None:
        """Write comparison.json, table.md, figure.svg and report.html into a folder.

        `run_pages` are the pages of the trainings, relative to the folder, with their labels; `references` is BibTeX.
        """
        figures = Figures()
        curves = figures.embed(self.plot, folder / "figure.svg")
        write_whole(folder / "table.md", self.markdown())
        results = asdict(replace(self, certificates={}))
        results["certificates"] = {name: certificate.to_dict() for name, certificate in self.certificates.items()}
        write_whole(
            folder / "comparison.json", sealed_json(json.dumps({"format": "comparison 1", **results}, indent=1))
        )
        content = {
            "title": f"{len(self.entries)} algorithms on {self.data}",
            "subtitle": "The same data, blocks and first weights; only the skeleton differs.",
            "columns": self.columns(),
            "rows": self.rows(),
            "note": self.note,
            "differences": {"columns": self.difference_columns(), "rows": self.difference_rows(), "labels": 2},
            "about_differences": ABOUT_DIFFERENCES,
            "curves": curves,
            "certificates": [
                {
                    "title": certificate.title,
                    "rows": certificate.rows(),
                    "figure": figures.embed_certificate(certificate),
                }
                for certificate in self.certificates.values()
            ],
            "runs": run_pages,
        }
        write_page("comparison.html", folder / "report.html", content, figures, references)


def _over_seeds(values: Sequence[float], digits: int) -> str:
    return spread(values, digits) if values else "diverged"
