"""BibTeX of objects: of whatever has `references`, the keys of entries in references.bib."""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

from .._support.errors import WrongTypeError
from ..equilibrium import Equilibrium
from ..layers import FewBitLayer
from ..networks import skeletons
from ..surgery import changes


def bibtex(*things: Any) -> str:
    """The BibTeX entries behind models, algorithms, methods and data, each once, in the order of `things`.

    Raises WrongTypeError for something that has no references, nor any part with references.
    """
    keys = dict.fromkeys(key for thing in things for key in _references(thing))
    return "\n\n".join(_entries()[key] for key in keys)


def _references(thing: Any) -> list[str]:
    parts = [part for part in (thing, *_parts(thing)) if getattr(part, "references", None) is not None]
    if not parts:
        kind = type(thing).__name__
        raise WrongTypeError(f"{kind} has no references; expected a model, an algorithm, a method or data.")
    references = [[part.references] if isinstance(part.references, str) else part.references for part in parts]
    return list(chain.from_iterable(references))


def _parts(thing: Any) -> Iterable[Any]:
    """The description, the algorithms, the changes, the equilibria and the layers of few-bit weights of a model."""
    yield getattr(thing, "info", None)
    yield getattr(thing, "algorithm", None)
    if hasattr(thing, "named_modules"):
        yield from (skeleton.algorithm for skeleton in skeletons(thing))
        yield from changes(thing)
        yield from (module for module in thing.modules() if isinstance(module, FewBitLayer | Equilibrium))


def short_citation(key: str) -> str:
    """The authors and the year of an entry of references.bib, as in "Wu et al. 2024"; raises KeyError without one."""
    fields = dict(re.findall(r"^ *(\w+) *= *\{(.*)\},?$", _entries()[key], re.M))
    names = [re.sub(r"\\.|[{}]", "", name.partition(",")[0]) for name in fields["author"].split(" and ")]
    authors = names[0] + (" et al." if len(names) > 2 else f" & {names[1]}" if len(names) == 2 else "")
    return f"{authors} {fields['year']}"


@cache
def _entries() -> dict[str, str]:
    text = (files("minimand") / "references.bib").read_text(encoding="utf-8")
    entries = [entry.strip() for entry in text.split("\n\n") if entry.strip()]
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}
