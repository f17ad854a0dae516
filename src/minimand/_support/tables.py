"""Tables that a person reads, on a terminal or as text."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 110


def make_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, labels: int = 1
) -> "Table":
    """A table without lines; columns with a name are numbers but for the first `labels` and a description."""
    from rich.table import Table
    from rich.text import Text

    heading = None if title is None else Text(title)
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, show_header=any(columns))
    for i, name in enumerate(columns):
        numeric = bool(name) and i >= labels and name != "description"
        table.add_column(name, justify="right" if numeric else "left", style="bold" if i == 0 else "", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def table_text(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, note: str = "", labels: int = 1
) -> str:
    """The table of `make_table` as plain text, with a note below it."""
    from rich.console import Console

    console = Console(width=_WIDTH, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as captured:
        console.print(make_table(columns, rows, title, labels))
        if note:
            console.print(note, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def table_html(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, note: str = "") -> str:
    """A table in HTML, as notebooks show it; with a title above it and a note below."""
    from html import escape

    heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    above = "" if title is None else f"<caption>{escape(title)}</caption>"
    below = f"<p>{escape(note)}</p>" if note else ""
    head = f"<thead><tr>{heads}</tr></thead>" if any(columns) else ""
    return f"<table>{above}{head}<tbody>{body}</tbody></table>{below}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """A table in Markdown; all columns but the first `labels` are numbers."""
    lines = [columns, ["---"] * labels + ["---:"] * (len(columns) - labels), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int, style: str = "f") -> str:
    """Values in text as mean ± standard deviation; a single value alone."""
    mean = f"{statistics.mean(values):.{digits}{style}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}{style}}"
