"""BibTeX of exactly what was used: of objects, and of whatever the registries know by name."""

from collections.abc import Mapping
from typing import Any

from .._support.errors import MinimandError, unknown_name
from ..algorithms import ALGORITHMS, as_algorithm
from ..data.registry import DATA
from ..models.info import model_info
from ..models.registry import list_models
from ..report.citing import bibtex
from ..surgery.normalizations._kinds import NORMALIZATIONS
from ..trainability.initialization.scheme import SCHEMES
from ..training.methods._registry import METHODS
from .study import STUDIES

_REGISTRIES: tuple[Mapping[str, Any], ...] = (ALGORITHMS, DATA, METHODS, SCHEMES, NORMALIZATIONS, STUDIES)


def bibliography(*things: Any) -> str:
    """The BibTeX entries behind models, algorithms, methods, data and studies, each once, in the order of `things`.

    Args:
        *things: objects with `references`, or names of the registries.

    Raises:
        MinimandError: a name that no registry knows. WrongTypeError: something that has no references.
    """
    objects: list[Any] = []
    for thing in things:
        objects += _named(thing) if isinstance(thing, str) else [thing]
    return bibtex(*objects)


def cite(*things: Any) -> None:
    """Print the `bibliography` of things: `mm.cite(model, method, data)`.

    Raises:
        MinimandError: there are no things, or none with a reference.
    """
    entries = bibliography(*things)
    if not entries:
        named = ", ".join(thing if isinstance(thing, str) else type(thing).__name__ for thing in things)
        what = f"{named} has no reference" if things else "nothing was named"
        raise MinimandError(f"nothing to cite: {what}; expected algorithms, models, methods, data sets or runs.")
    print(entries)


def _named(name: str) -> list[Any]:
    """The things of a name in the first registry that knows it; of a model also the algorithm that it runs."""
    if ".py:" in name:
        return [as_algorithm(name)]
    bare = name.partition("(")[0]
    for registry in _REGISTRIES:
        if bare in registry:
            return [registry[bare]]
    try:
        info = model_info(bare)
    except MinimandError:
        known = [*list_models(), *(known for registry in _REGISTRIES for known in registry)]
        raise unknown_name("name to cite", bare, known) from None
    return [info, as_algorithm(info.algorithm)]
