"""BibTeX of exactly what was used: of objects, and of whatever the registries know by name."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from .._support.errors import MinimandError, unknown_name
from ..algorithms import ALGORITHMS, as_algorithm
from ..data.registry import DATA
from ..models import list_models, model_info
from ..report import bibtex
from ..surgery.normalizations import NORMALIZATIONS
from ..trainability.initialization.scheme import SCHEMES
from ..training.methods._registry import METHODS
from .study import STUDIES

_REGISTRIES: tuple[Mapping[str, Any], ...] = (ALGORITHMS, DATA, METHODS, SCHEMES, NORMALIZATIONS, STUDIES)


def bibliography(*things: Any) -> str:
    """The BibTeX entries behind things, each once, in their order: objects with `references`, or registered names.

    Raises:
        MinimandError: a name that no registry knows. WrongTypeError: something that has no references.
    """
    return bibtex(*chain.from_iterable(_named(thing) if isinstance(thing, str) else [thing] for thing in things))


def cite(*things: Any) -> None:
    """Print the `bibliography` of things: `mm.cite(model, method, data)`; raises MinimandError where it is empty."""
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
