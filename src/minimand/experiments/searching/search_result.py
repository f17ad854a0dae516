"""The result of a search for coefficients, as a table, a figure and files."""

import json
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from ..._support.files import write_whole
from ..._support.sealed import sealed_json
from ..._support.style import COLORS, Figure, one_panel
from ..._support.tables import table_html, table_text
from ...report import Figures, write_page
from ...theory import Certificate, Identification
from ..comparing.comparison import Comparison
from .trials import Trial, best_first, tally

FILE = "search.json"  # the result of a search, in its folder
_SHOWN = 10


@dataclass(frozen=True)
class SearchResult:
    """The best algorithm that `mm.search` found, the trials behind it, and how it compares with the known ones."""

    references: ClassVar = ("akiba2019optuna",)

    data: str
    model: str
    held_out: int
    """The number of training samples that the trials were judged by."""
    seed: int
    trials: list[Trial]
    source: str = field(repr=False)
    """The text of a file with the best algorithm as a class `Found`."""
    certificate: Certificate = field(repr=False)
    identification: Identification
    nearest: list[tuple[str, float]]
    """The nearest known algorithms, with the L1 distance of kernels over the depth of the certificate."""
    comparison: Comparison = field(repr=False)
    """The best and the known algorithms trained afresh, and judged on the test samples."""
    run: Path

    @property
    def best(self) -> Trial:
        """The trial of the lowest loss."""
        return best_first(self.trials)[0]

    def columns(self) -> list[str]:
        """The column heads of the table."""
        names = [name.replace("_", " ") for name in self.best.method.coefficients]
        return ["trial", *names, "validation loss", ""]

    def rows(self) -> list[list[str]]:
        """A row for each of the best trials, and for those of known algorithms."""
        ordered = best_first(self.trials)
        shown = [t for i, t in enumerate(ordered) if i < _SHOWN or t.method.known]
        return [
            [str(t.number), *(f"{c:g}" for c in t.method.coefficients.values()), f"{t.loss:.4f}", t.method.known]
            for t in shown
        ]

    @property
    def note(self) -> str:
        """A paragraph on how the trials were judged."""
        return (
            f"{len(self.trials)} trials: {tally(self.trials)}. Each was trained once, with seed {self.seed}, and "
            f"judged on {self.held_out:,} training samples held out: the lowest of many such losses is partly luck. "
            "The comparison was trained afresh on all training samples, with other seeds, and judged on the test "
            "samples."
        )

    @property
    def lines(self) -> list[str]:
        """Lines on what the best algorithm is, and which known ones are near."""
        depth = self.certificate.depth
        near = [f"kernel distance {apart:.4g} from {name}, over {depth} layers" for name, apart in self.nearest]
        return [*str(self.identification).splitlines(), *near]

    def plot(self) -> Figure:
        """The loss of each trial, and the lowest so far."""
        points = [(t.number, t.loss) for t in self.trials if t.loss is not None]
        numbers, losses = [number for number, _ in points], [loss for _, loss in points]
        figure, axes = one_panel(7, 3)
        axes.plot(numbers, losses, "o", color=COLORS[0], markersize=4, label="trained to the end")
        axes.step(numbers, list(accumulate(losses, min)), where="post", color=COLORS[1], label="lowest so far")
        axes.set(xlabel="trial", ylabel="validation loss", yscale="log")
        axes.locator_params("x", integer=True)
        axes.legend(frameon=False, fontsize=8)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        entries = [{k: v for k, v in asdict(e).items() if k != "histories"} for e in self.comparison.entries]
        return {
            "data": self.data,
            "model": self.model,
            "recipe": self.comparison.recipe,
            "held_out": self.held_out,
            "seed": self.seed,
            "environment": self.comparison.environment,
            "trials": [asdict(t) for t in self.trials],
            "found": asdict(self.best),
            "source": self.source,
            "certificate": self.certificate.to_dict(),
            "identified": [str(match) for match in self.identification.matches],
            "nearest": [{"algorithm": name, "distance": apart} for name, apart in self.nearest],
            "comparison": {"seeds": self.comparison.seeds, "entries": entries},
        }

    def write(self, references: str) -> None:
        """Write search.json and report.html into the folder of the search; `references` is BibTeX."""
        figures = Figures()
        write_whole(self.run / FILE, sealed_json(json.dumps({"format": "search 1", **self.to_dict()}, indent=1)))
        content = {
            "title": f"A search on {self.data}",
            "subtitle": self.best.method.formula,
            "result": self,
            "curve": figures.embed(self.plot),
            "picture": figures.embed_certificate(self.certificate),
        }
        write_page("search.html", self.run / "report.html", content, figures, references)

    def __repr__(self) -> str:
        return f"<search on {self.data}: {len(self.trials)} trials, the best {self.best.method.formula}>"

    def _repr_html_(self) -> str:
        return table_html(self.columns(), self.rows(), note=self.note)

    def __str__(self) -> str:
        table = table_text(self.columns(), self.rows(), note=self.note)
        return "\n\n".join([table, self.source, str(self.certificate), "\n".join(self.lines), str(self.comparison)])
