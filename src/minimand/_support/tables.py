"""Tables that a person reads, on a terminal or as text."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

_WIDTH = 110
_LEAST = 12  # letters of a text in a narrow table


@dataclass(frozen=True)
class Fitted:
    """A table without lines, as wide as the console at most: heads and names wrap between words, then deviations."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    labels: int = 1

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["Table"]:
        from rich.table import Table
        from rich.text import Text

        heading = None if self.title is None else Text(self.title)
        table = Table(title=heading, title_justify="left", box=None, pad_edge=False, show_header=any(self.columns))
        widths = self._widths(options.max_width)
        for i, (name, width) in enumerate(zip(self.columns, widths, strict=True)):
            justify = "right" if self._is_number(i) else "left"
            table.add_column(
                _wrapped(name, width), justify=justify, style="bold" if i == 0 else "", width=width, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*(Text(_wrapped(cell, width)) for cell, width in zip(row, widths, strict=True)))
        yield table

    def _is_number(self, i: int) -> bool:
        return bool(self.columns[i]) and i >= self.labels and self.columns[i] != "description"

    def _widths(self, most: int) -> list[int]:
        """The width of each column: what it wants, or where that is too much heads on several lines, then text."""
        most -= 2 * (len(self.columns) - 1)
        cells = [[row[i] for row in self.rows] for i in range(len(self.columns))]
        wanted = [max(map(len, [name, *column])) for name, column in zip(self.columns, cells, strict=True)]
        if sum(wanted) <= most:
            return wanted
        needed = [max(map(len, [*name.split(), *column, ""])) for name, column in zip(self.columns, cells, strict=True)]
        texts = [i for i in range(len(self.columns)) if not self._is_number(i)]
        if most - sum(needed[i] for i in range(len(needed)) if i not in texts) < sum(
            max(map(len, [*_pieces("".join(f"{cell} " for cell in cells[i])), ""])) for i in texts
        ):  # texts get too little room: numbers are cut before their deviation, into two lines
            for i in set(range(len(needed))) - set(texts):
                words = [word for cell in cells[i] for word in cell.replace(" ±", "_±").split(" ")]
                needed[i] = max(map(len, [*self.columns[i].split(), *words, ""]))
        left = most - sum(width for i, width in enumerate(needed) if i not in texts)
        # Short texts first: what they leave is shared by the longer ones.
        for count, i in enumerate(sorted(texts, key=lambda i: wanted[i])):
            share = max(left // (len(texts) - count), _LEAST)
            needed[i] = min(wanted[i], share)
            left -= needed[i]
        return needed


def _wrapped(text: str, width: int) -> str:
    """Text in lines of a width, broken after spaces, commas, brackets, slashes and dots; elsewhere only if it must."""
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _pieces(text: str) -> list[str]:
    """Text between the places where a line may end."""
    return re.split(r"(?<=[ ,(\[/=])|(?<=\.)(?!\d)", text)


def make_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, labels: int = 1
) -> Fitted:
    """A table without lines; columns with a name are numbers but for the first `labels` and a description."""
    return Fitted(columns, rows, title, labels)


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
