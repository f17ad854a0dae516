"""What the pages take from the code, so that they cannot say anything else."""

import io
import re
from functools import cache, partial
from pathlib import Path
from textwrap import indent
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.structure.files import File, Files

import minimand as mm
from minimand.experiments.running import StudyResult, read_study
from minimand.experiments.study import STUDIES
from minimand.report.figures import svg

_RESULTS = Path(__file__).parents[1] / "results" / "studies"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add a picture of each algorithm: poles, gains, wiring."""
    for name in mm.algorithms.ALGORITHMS:
        picture = io.StringIO()
        _certificate(name).plot().savefig(picture, format="svg", metadata={"Date": None})
        files.append(File.generated(config, f"figures/algorithms/{name}.svg", content=picture.getvalue()))
    for name in STUDIES:
        for i, figure in enumerate(_study(name).figures().values()):
            files.append(File.generated(config, f"figures/studies/{name}-{i}.svg", content=svg(figure)))
    return files


@cache
def _study(name: str) -> StudyResult:
    return read_study(name, run=_RESULTS / f"{name}-cpu")


@cache
def _certificate(name: str) -> mm.theory.Certificate:
    return mm.certify(name, depth=12)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `{{ name }}` on a line of its own by what the function of that name returns."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda found: _TABLES[found.group(1)](), markdown, flags=re.M)


def _algorithms() -> str:
    rows = []
    for name, cls in mm.algorithms.ALGORITHMS.items():
        c = _certificate(name)
        order = "-" if c.order is None else str(c.order)
        universal = ", ".join(s.name for s in c.universal)
        rows.append([f"[`{name}`](#{cls.__name__.lower()})", _yes(c.zero_stable), order, str(c.inverse), universal])
    return _table(["name", "zero-stable", "order", "inverse", "universal"], rows)


def _algorithm_cards() -> str:
    cards = []
    for name, cls in mm.algorithms.ALGORITHMS.items():
        first, _, rest = (cls.__doc__ or "").partition("\n")
        coefficients = ", ".join(f"`{name} = {c!r}`" for name, c in cls().coefficients().items())
        paragraphs = re.sub(r"^ +", "", rest.strip(), flags=re.M)
        paragraphs = re.sub(r"^(Converges|Network):", r"\n**\1:**", paragraphs, flags=re.M)
        cards.append(
            f"## {cls.__name__}\n\n`{first}`\n\n{paragraphs}\n\n**Coefficients:** {coefficients}\n\n"
            f"![Poles, gains and wiring of {cls.__name__}](figures/algorithms/{name}.svg)\n\n"
            f"{_measured(name)}\n\n"
            f'??? note "Certificate"\n\n    ```text\n{indent(str(_certificate(name)), "    ")}\n    ```'
        )
    return "\n\n".join(cards)


def _measured(name: str) -> str:
    """A sentence on what the study of all algorithms found."""
    rows = {row[0]: row for row in _study("gallery").rows()}
    if name not in rows:
        return "**Measured:** not beside the others, as its prox has to be known."
    error, loss = rows[name][1:3]
    usual = rows["gradient_descent"]
    beside = "" if name == "gradient_descent" else f"; gradient descent: {usual[1]} %, {usual[2]}"
    return (
        f"**Measured:** 12 layers on the digits, three seeds: test error {error} %, test loss {loss}{beside} "
        "([all of them](studies.md#every-algorithm-with-the-same-blocks))."
    )


def _study_section(name: str) -> str:
    result = _study(name)
    study, table = result.study, result.markdown()
    if len(result.rows()) > 24:
        table = f'??? note "Table"\n\n{indent(table, "    ")}'
    figures = "\n\n".join(
        f"![{caption}](figures/studies/{name}-{i}.svg)\n\n*{caption}.*" for i, caption in enumerate(result.figures())
    )
    command = f"```console\n$ minimand study run {name}{_options(result)}\n```"
    return f"## {study.title}\n\n{study.about}\n\n{command}\n\n{table}\n\n{figures}"


def _options(result: StudyResult) -> str:
    return " --data-folder path/to/cifar10" if any(m.cell.get("data") == "cifar10" for m in result.measurements) else ""


def _studies() -> str:
    by_folder = sorted(STUDIES.values(), key=lambda study: study.cells.__module__)
    rows = [[f"`{study.name}`", f"[{study.title}](#{slugify(study.title, '-')})"] for study in by_folder]
    return _table(["name", "what it is"], rows)


def _models() -> str:
    rows = []
    for name in mm.list_models():
        info = mm.model_info(name)
        rows.append(
            [f"`{name}`", info.description, info.binding, ", ".join(f"`{k}={v}`" for k, v in info.settings.items())]
        )
    return _table(["name", "what it is", "binding", "settings"], rows)


def _data() -> str:
    return _table(["name", "what it is"], [[f"`{name}`", line] for name, line in mm.list_data().items()])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


_TABLES = {
    "algorithms": _algorithms,
    "algorithm_cards": _algorithm_cards,
    "models": _models,
    "data": _data,
    "studies": _studies,
    **{f"study_{name}": partial(_study_section, name) for name in STUDIES},
}
