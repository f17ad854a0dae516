"""BibTeX of exactly what was used."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from .._support.errors import MinimandError, WrongTypeError


def bibliography(*things: Any) -> str:
    """The BibTeX entries behind models, algorithms, methods and data, each once, in the order of `things`.

    Args:
        *things: objects of minimand, or names of algorithms, models and data sets.

    Raises:
        ValueError: a name that is none of these. TypeError: something minimand has no references for.
    """
    keys = dict.fromkeys(key for thing in things for key in _references(thing))
    return "\n\n".join(_entries()[key] for key in keys)


def cite(*things: Any) -> None:
    """Print the `bibliography` of things: `mm.cite(model, method, data)`.

    Raises:
        ValueError: nothing to cite: no things, or none with a reference.
    """
    found = bibliography(*things)
    if not found:
        named = ", ".join(thing if isinstance(thing, str) else type(thing).__name__ for thing in things)
        what = f"{named} has no reference" if things else "nothing was named"
        raise MinimandError(f"nothing to cite: {what}; expected algorithms, models, methods, data sets or runs.")
    print(found)


def _references(thing: Any) -> Iterable[str]:
    if isinstance(thing, str):
        return _named(thing)
    found: list[str] = []
    known = False
    for part in (thing, getattr(thing, "info", None), getattr(thing, "algorithm", None), *_wiring(thing)):
        references = getattr(part, "references", None)
        if references is not None:
            known = True
            found += [references] if isinstance(references, str) else references
    if not known:
        raise WrongTypeError(
            f"{type(thing).__name__} has no references; expected a model, an algorithm, a method or data."
        )
    return found


def _wiring(thing: Any) -> Iterable[Any]:
    """The algorithms that a model was rewired by, its normalizations, and its layers of few-bit weights."""
    if not hasattr(thing, "named_modules"):
        return ()
    from ..layers.weight_bits import FewBitLayer
    from ..surgery.normalize import normalized
    from ..surgery.rewire import rewired

    found = rewired(thing)
    layers = [m for m in thing.modules() if isinstance(m, FewBitLayer)]
    return (*(() if found is None else found.originals), *normalized(thing), *layers)


def _named(name: str) -> Iterable[str]:
    from .._support.errors import unknown_name
    from ..algorithms._registry import as_algorithm, builtin
    from ..data.registry import data_references, list_data
    from ..models.info import model_info
    from ..models.registry import list_models

    bare = name.partition("(")[0]
    if bare in builtin or ".py:" in name:
        return as_algorithm(name).references
    if bare in list_data():
        return data_references(bare)
    try:
        info = model_info(bare)
    except ValueError:
        raise unknown_name("name to cite", bare, [*builtin, *list_models(), *list_data()]) from None
    return [*info.references, *as_algorithm(info.algorithm).references]


@cache
def _entries() -> dict[str, str]:
    text = (files("minimand") / "references.bib").read_text(encoding="utf-8")
    entries = [entry.strip() for entry in text.split("\n\n") if entry.strip()]
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}
