"""Pages about runs, comparisons, searches and studies: one self-contained HTML file each."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .._support.errors import MinimandError
from .._support.files import write_whole
from .._support.style import PALETTE, Figure
from ..data import Data
from ..models import NamedModel, UnrolledNetwork
from ..networks import count_parameters, skeletons
from ..theory import Certificate
from ..theory.drawing import shown
from .citing import bibtex
from .explain import explain, learned_coefficients
from .figures import draw_coefficients, draw_confusion, draw_curves, svg
from .size import count_flops

if TYPE_CHECKING:
    from ..training.loop.result import FitResult


def write_report(result: "FitResult") -> Path:
    """Write report.html into the folder of a run: what was trained, how it went, what it can do.

    Without matplotlib the page has no figures and says so. Raises MinimandError if the result has no run.
    """
    import yaml

    if result.run is None:
        raise MinimandError("the result has no run; give fit a folder: run='runs/first'.")
    result.run.check_place()
    model, data, config = result.model, result.data, result.run.config()
    figures = Figures()
    unrolled = model if isinstance(model, UnrolledNetwork) else None
    explanation = explain(model) if skeletons(model) else None
    named = model.info if isinstance(model, NamedModel) else None
    coefficients = learned_coefficients(unrolled.stages) if unrolled else {}
    confusion = result.evaluation and result.evaluation.confusion
    # A model may have more outputs than there are classes.
    classes = [*data.classes, *map(str, range(len(data.classes), len(confusion or ())))]
    rows = result.history
    title, description = type(model).__name__, f"{type(model).__name__}, a model of your own"
    if named:
        title, description = named.name, f"{named.name}: {named.description}"
    content = {
        "title": f"{unrolled.algorithm if unrolled else title} on {data.name}",
        "subtitle": explanation.title if explanation else description,
        "facts": _facts(result, data, model),
        "curves": figures.embed(lambda: draw_curves(rows)),
        "explanation": explanation.lines if explanation else None,
        "certificate_rows": explanation.certificate.rows() if explanation else [],
        "certificate_figure": figures.embed_certificate(explanation.certificate) if explanation else None,
        "coefficients": figures.embed(lambda: draw_coefficients(coefficients)) if coefficients else None,
        "diagnosis": None if result.diagnosis is None else str(result.diagnosis.verdict),
        "diagnosis_figure": None if result.diagnosis is None else figures.embed(result.diagnosis.plot),
        "confusion": figures.embed(lambda: draw_confusion(confusion, classes)) if confusion else None,
        "history_columns": [name.replace("_", " ") for name in rows[0] if rows[0][name] is not None],
        "history": [[_short(v) for v in row.values() if v is not None] for row in rows],
        "profile": result.profile,
        "config": yaml.safe_dump(config, sort_keys=False),
    }
    references = bibtex(*([model] if explanation or named else []), result.method, data)
    write_page("run.html", result.run.report, content, figures, references)
    return result.run.report


class Figures:
    """The figures of a page as data URIs; remembers if the package that draws them is missing."""

    def __init__(self) -> None:
        self.missing = ""
        """A sentence for the page if there are no figures, as a package is missing."""

    def embed(self, draw: Callable[[], Figure], path: Path | None = None) -> str | None:
        """The figure as a data URI, or None where it cannot be drawn; with a path it is written there too, on white."""
        figures: dict[str, Figure] = {}

        def drawn() -> Mapping[str, Figure]:
            figures[""] = draw()
            return figures

        uri = next((uri for _, uri in self.embed_all(drawn)), None)
        if path is not None and uri is not None:
            figures[""].savefig(path)
        return uri

    def embed_certificate(self, certificate: Certificate) -> str | None:
        """The figure of a certificate as a data URI; trainings of a comparison draw the one they share once."""
        drawn = _Drawn(shown(certificate), certificate)
        return next((uri for _, uri in self._uris(lambda: {"": _certificate_svg(drawn, svg)})), None)

    def embed_all(self, draw: Callable[[], Mapping[str, Figure]]) -> list[tuple[str, str]]:
        """Captions with their figures as data URIs; none where they cannot be drawn."""
        return self._uris(lambda: {caption: svg(figure) for caption, figure in draw().items()})

    def _uris(self, render: Callable[[], Mapping[str, str]]) -> list[tuple[str, str]]:
        try:
            texts = render()
        except ModuleNotFoundError as error:
            self.missing = f"No figures: {error}."
            return []
        return [
            (caption, "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode())
            for caption, text in texts.items()
        ]


@dataclass(frozen=True)
class _Drawn:
    """A certificate, equal to those with the same figure."""

    shown: str
    certificate: Certificate = field(compare=False)


@lru_cache(maxsize=32)
def _certificate_svg(drawn: _Drawn, render: Callable[[Figure], str]) -> str:
    return render(drawn.certificate.plot())  # a third of a second, which a comparison would pay for every run


def write_page(template: str, path: Path, content: dict[str, Any], figures: Figures, references: str) -> None:
    """Fill a template, at whose end stand references in BibTeX and why figures are missing, and write it whole."""
    import jinja2

    from .. import __version__

    loader = jinja2.PackageLoader("minimand.report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    content = content | {"bibliography": references, "missing": figures.missing, "version": __version__}
    content["palette"] = PALETTE
    date = time.strftime("%Y-%m-%d %H:%M")
    text = environment.get_template(template).render(**content, date=date)
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def _facts(result: "FitResult", data: Data, model: nn.Module) -> list[tuple[str, str]]:
    results = [("none", "test samples") if result.test_loss is None else (f"{result.test_loss:.4f}", "test loss")]
    if result.test_accuracy is not None:
        results.insert(0, (f"{100 * result.test_accuracy:.2f} %", "test accuracy"))
    if result.ensemble_evaluation and result.ensemble_evaluation.accuracy is not None:
        results.append((f"{100 * result.ensemble_evaluation.accuracy:.2f} %", "all classifiers together"))
    flops = count_flops(model, data.shape, data.is_text)
    operations, unit = "unknown" if flops is None else f"{flops / 1e6:,.1f} M", "sample"
    if data.is_text:
        results, unit = [*results, *_facts_of_text(result.history[-1])], "token"
        operations = operations if flops is None else f"{flops / data.shape[0] / 1e6:,.2f} M"
    return [
        *results,
        (f"{count_parameters(model):,}", "parameters"),
        (operations, f"FLOPs a {unit}, forward"),
        (f"{sum(record['seconds'] for record in result.history):.0f} s", f"for {len(result.history)} epochs"),
    ]


def _facts_of_text(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the last epoch of a training on text measured, but for its loss."""
    named = {"bits_per_byte": "bits a byte, test", "nats_per_character": "nats a character, test"}
    measures = [(f"{record[name]:.4f}", words) for name, words in named.items() if record.get(name) is not None]
    return [
        *measures,
        (f"{record['tokens']:,}", "tokens seen"),
        (f"{record['tokens_per_second']:,}", "tokens a second"),
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
