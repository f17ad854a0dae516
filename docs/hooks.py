"""What the pages take from the code, so that they cannot say anything else."""

import re
from typing import Any

import minimand as mm


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `{{ name }}` on a line of its own by what the function of that name returns."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda found: _TABLES[found.group(1)](), markdown, flags=re.M)


def _algorithms() -> str:
    rows = []
    for name, cls in mm.algorithms.builtin.items():
        c = mm.certify(cls())
        order = "-" if c.order is None else str(c.order)
        universal = ", ".join(s.name for s in c.universal)
        recurrence = (cls.__doc__ or "").partition("\n")[0].partition("   (")[0]
        rows.append([f"`{name}`", f"`{recurrence}`", _yes(c.zero_stable), order, str(c.inverse), universal])
    return _table(["name", "recurrence", "zero-stable", "order", "inverse", "universal"], rows)


def _algorithm_cards() -> str:
    cards = []
    for cls in mm.algorithms.builtin.values():
        first, _, rest = (cls.__doc__ or "").partition("\n")
        coefficients = ", ".join(f"`{name} = {c!r}`" for name, c in cls().coefficients().items())
        paragraphs = re.sub(r"^ +", "", rest.strip(), flags=re.M)
        paragraphs = re.sub(r"^(Converges|Network):", r"\n**\1:**", paragraphs, flags=re.M)
        cards.append(f"## {cls.__name__}\n\n`{first}`\n\n{paragraphs}\n\n**Coefficients:** {coefficients}")
    return "\n\n".join(cards)


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


_TABLES = {"algorithms": _algorithms, "algorithm_cards": _algorithm_cards, "models": _models, "data": _data}
