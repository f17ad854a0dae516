"""Schemes by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ...._support.calls import call_with, parse_call
from ...._support.errors import unknown_name
from ..job import Job

Need = Literal["batch", "branches"]
Rule = Callable[..., Any]

SCHEMES: dict[str, "Scheme"] = {}


@dataclass(frozen=True)
class Scheme:
    """A function of a job and options, and what it cannot do without."""

    name: str
    rule: Rule
    needs: tuple[Need, ...]
    traced: bool
    """Whether it asks what a layer reads."""
    references: tuple[str, ...]
    """Keys into references.bib."""

    def __call__(self, job: Job, options: dict[str, Any]) -> Any:
        """Do it; options it does not take are an error."""
        for need in self.needs:
            job.need(need, self.name)
        job.references += self.references
        return call_with(partial(self.rule, job), options, f"the scheme {self.name}")


def scheme(*needs: Need, traced: bool = True, references: tuple[str, ...] = ()) -> Callable[[Rule], Rule]:
    """Register a function under its name."""

    def register(rule: Rule) -> Rule:
        name = rule.__name__  # pyright: ignore[reportFunctionMemberAccess]
        SCHEMES[name] = Scheme(name, rule, needs, traced, references)
        return rule

    return register


def read_scheme(text: str) -> tuple[Scheme, dict[str, Any]]:
    """The scheme and the options of a text such as `critical(q=0.5)`.

    Raises:
        ValueError: there is none of this name.
    """
    name, options = parse_call(text, "scheme")
    if name not in SCHEMES:
        raise unknown_name("scheme", name, SCHEMES)
    return SCHEMES[name], options
