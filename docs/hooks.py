"""What the pages take from the code, so that they cannot say anything else."""

import io
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache, partial
from inspect import signature
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from markdown.extensions.toc import slugify
from mkdocs.structure.files import File, Files
from torch import nn

import minimand as mm
from minimand._support.plain_yaml import read_yaml
from minimand.equilibrium import GRADIENTS, SOLVERS
from minimand.experiments import StudyResult, read_study
from minimand.experiments.deciding.claims import COLUMNS, claim_rows
from minimand.experiments.study import STUDIES
from minimand.layers.thresholds import THRESHOLDS
from minimand.recipes.optimizers import OPTIMIZERS
from minimand.recipes.registry import RECIPES
from minimand.recipes.schedules import SCHEDULES
from minimand.report.figures import svg
from minimand.training.hooks.hook import HOOKS

_RESULTS = Path(__file__).parents[1] / "results" / "studies"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pictures: of each algorithm (poles, gains, wiring), of each study, of two diagnoses."""
    for name in mm.algorithms.ALGORITHMS:
        picture = io.StringIO()
        _certificate(name).plot().savefig(picture, format="svg", metadata={"Date": None})
        files.append(File.generated(config, f"figures/algorithms/{name}.svg", content=picture.getvalue()))
    for name in STUDIES:
        for i, figure in enumerate(_study(name).figures().values() if _is_measured(name) else ()):
            files.append(File.generated(config, f"figures/studies/{name}-{i}.svg", content=svg(figure)))
    for name, scheme in (("before", None), ("after", "critical")):
        files.append(File.generated(config, f"figures/diagnosis-{name}.svg", content=svg(_diagnosis(scheme))))
    return files


def _diagnosis(scheme: str | None) -> Any:
    """The figure of the diagnosis of 30 tanh layers with torch's own weights, or with those of a scheme."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(30)]
    model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))
    data = mm.load_data("digits")
    batch = data.example(count=64)
    if scheme is not None:
        mm.initialize(model, scheme, batch=batch)
    return mm.diagnose(model, batch).plot()


def _is_measured(name: str) -> bool:
    return (_RESULTS / f"{name}-cpu").is_dir()


@cache
def _study(name: str) -> StudyResult:
    return read_study(name, run=_RESULTS / f"{name}-cpu")


@cache
def _certificate(name: str) -> mm.theory.Certificate:
    return mm.certify(name, depth=12)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `{{ name }}` on a line of its own by what the function of that name returns."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda match: _TABLES[match.group(1)](), markdown, flags=re.M)


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
            f"![Poles, gains and wiring of {cls.__name__}](../figures/algorithms/{name}.svg)\n\n"
            f"{_measured(name)}\n\n"
            f'??? note "Certificate"\n\n    ```text\n{indent(str(_certificate(name)), "    ")}\n    ```'
        )
    return "\n\n".join(cards)


def _measured(name: str) -> str:
    """A sentence on what the study of all algorithms found."""
    rows = {row[0]: row for row in _study("gallery").rows()}
    if name not in rows:
        return "**Measured:** not beside the others, as its prox is no block of the same kind."
    error, loss = rows[name][1:3]
    usual = rows["gradient_descent"]
    beside = "" if name == "gradient_descent" else f"; gradient descent: {usual[1]} %, {usual[2]}"
    return (
        f"**Measured:** 12 layers on the digits, three seeds: test error {error} %, test loss {loss}{beside} "
        "([all of them](../results/studies.md#every-algorithm-with-the-same-blocks))."
    )


def _study_section(name: str) -> str:
    if not _is_measured(name):
        study = STUDIES.named(name)
        return f"## {study.title}\n\n{study.about}\n\nBeing measured: `minimand study run {name}`."
    result = _study(name)
    study, table = result.study, result.markdown()
    if len(result.rows()) > 24:
        table = f'??? note "Table"\n\n{indent(table, "    ")}'
    figures = "\n\n".join(
        f"![{caption}](../figures/studies/{name}-{i}.svg)\n\n*{caption}.*" for i, caption in enumerate(result.figures())
    )
    command = f"```console\n$ minimand study run {name}{_options(result)}\n```"
    return f"## {study.title}\n\n{study.about}\n\n{command}\n\n{table}\n\n{figures}"


def _options(result: StudyResult) -> str:
    return " --data-folder path/to/cifar10" if any(m.cell.get("data") == "cifar10" for m in result.measurements) else ""


def _studies() -> str:
    by_folder = sorted(filter(lambda s: _is_measured(s.name), STUDIES.values()), key=lambda s: s.cells.__module__)
    rows = [[f"`{study.name}`", f"[{study.title}](#{slugify(study.title, '-')})"] for study in by_folder]
    return _table(["name", "what it is"], rows)


def _gradient_errors() -> str:
    """The errors of gradients of blocks of several Lipschitz constants, W z + x with an orthogonal W."""
    rows: dict[str, list[str]] = {}
    scales = (0.3, 0.6, 0.9)
    for scale in scales:
        torch.manual_seed(0)
        linear = nn.Linear(32, 32)
        nn.init.orthogonal_(linear.weight, scale)
        layer = mm.Equilibrium(nn.Sequential(linear))
        errors = mm.equilibrium.gradient_errors(layer, torch.randn(64, 32)).errors
        for name, error in errors.items():
            rows.setdefault(f'`"{name}"`', []).append(f"{error.relative:.1g} ({error.cosine:.3f})")
    head = ["relative error (cosine)", *(f"Lipschitz constant {scale}" for scale in scales)]
    return _table(head, [[name, *cells] for name, cells in rows.items()])


def _claims() -> str:
    """The table of claims, from the committed results and from claims.yaml."""
    by_hand = read_yaml((Path(__file__).parent / "results" / "claims.yaml").read_text())
    rows = claim_rows(STUDIES.values(), lambda name: _study(name) if _is_measured(name) else None, by_hand)  # pyright: ignore[reportArgumentType]
    return _table(list(COLUMNS), rows)


def _models() -> str:
    rows = []
    for name in mm.list_models():
        info = mm.model_info(name)
        rows.append(
            [
                f"`{name}`",
                info.description,
                info.binding or "none: a plain sequence",
                ", ".join(f"`{k}={v}`" for k, v in info.settings.items()),
            ]
        )
    return _table(["name", "what it is", "binding", "settings"], rows)


def _names(kinds: str) -> str:
    """A table of what `minimand list` has of a kind."""
    lines = getattr(mm, f"list_{kinds}")()
    return _table(["name", "what it is"], [[f"`{name}`", line] for name, line in lines.items()])


def _registries() -> str:
    """A row for each registry: its page of Extend, and how many things it has."""
    rows = []
    for kinds in _KINDS:
        page = _PAGES.get(kinds) or kinds.removesuffix("s")
        rows.append(
            [
                f"[{'data set' if page == 'data' else page}]({page}.md)",
                str(len(getattr(mm, f"list_{kinds}")())),
                f"`minimand.{kinds}`",
                f"`minimand list {kinds}`, `mm.list_{kinds}()`",
            ]
        )
    others = {
        "hook of the training step": HOOKS,
        "solver of equilibria": SOLVERS,
        "gradient of equilibria": GRADIENTS,
        "threshold": THRESHOLDS,
    }
    for title, registry in others.items():
        page = title.partition(" ")[0]
        rows.append([f"[{title}]({page}.md)", str(len(registry)), f"`minimand.{page}s`", ""])
    return _table(["a new", "built in", "entry points", "to see them"], rows)


def _settings(classes: Mapping[str, type[Any]]) -> str:
    """A table of optimizers or schedules: the name, and the fields with their defaults."""
    rows = []
    for name, cls in classes.items():
        default = cls()
        settings = ", ".join(f"`{f.name}={getattr(default, f.name)!r}`" for f in fields(default))
        rows.append([f"`{name}`", f"`mm.{cls.__name__}`", (cls.__doc__ or "").partition("\n")[0], settings])
    return _table(["name", "class", "what it is", "settings"], rows)


def _recipes() -> str:
    """A table of the named recipes: the name, a line, and its own options with their defaults."""
    rows = []
    for name, line in mm.list_recipes().items():
        options = ", ".join(f"`{p.name}={p.default!r}`" for p in signature(RECIPES[name]).parameters.values())
        rows.append([f"`{name}`", line, options])
    return _table(["name", "what it is", "options"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _yes(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


_KINDS = sorted(name.removeprefix("list_") for name in mm.__all__ if name.startswith("list_"))
# The page of Extend for a kind, where it is not its name without an s.
_PAGES = {"studies": "study"}

_TABLES = {
    **{f"list_{kinds}": partial(_names, kinds) for kinds in _KINDS},
    "registries": _registries,
    "optimizers": partial(_settings, OPTIMIZERS),
    "schedules": partial(_settings, SCHEDULES),
    "recipes": _recipes,
    "algorithms": _algorithms,
    "algorithm_cards": _algorithm_cards,
    "models": _models,
    "studies": _studies,
    "gradient_errors": _gradient_errors,
    "claims": _claims,
    **{f"study_{name}": partial(_study_section, name) for name in STUDIES},
}
