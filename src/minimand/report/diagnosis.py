"""The page about a diagnosis: what is wrong and where, what repairs it, and what was measured of every layer."""

from pathlib import Path

from ..trainability import TrainabilityReport
from .page import Figures, write_page


def write_diagnosis(report: TrainabilityReport, path: Path, repaired: TrainabilityReport | None = None) -> None:
    """Write a diagnosis, and that of the repaired network if it was repaired, as one HTML page to a file."""
    figures = Figures()
    verdict = report.verdict
    facts = [
        (verdict.code.replace("_", " "), f"at {verdict.layer}" if verdict.layer else "the verdict"),
        (verdict.severity, "how severe it is"),
        (str(len(report.layers)), "layers that ran"),
        (str(report.samples), "samples"),
    ]
    if repaired is not None:
        facts.append((repaired.verdict.code.replace("_", " "), "after the repair"))
    content = {
        "title": f"Would {report.model} train?",
        "subtitle": f"{verdict.code}: {verdict.reason}.",
        "facts": facts,
        "remedy": verdict.action,
        "by_layer": figures.embed(report.plot),
        "disconnected": [[d.parameter, d.cause, d.advice] for d in report.disconnected],
        "columns": report.columns(),
        "rows": report.rows(),
        "repaired": None if repaired is None else str(repaired.verdict),
        "repaired_figure": None if repaired is None else figures.embed(repaired.plot),
    }
    write_page("diagnosis.html", path, content, figures, "")
