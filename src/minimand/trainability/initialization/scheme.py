"""Schemes of initialization by name: functions of a job and of options, found by being in the folder `schemes`.

Another package decorates such a function by `minimand.trainability.scheme`, or not, and names it in the entry-point
group `minimand.schemes`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..._support.calls import call_with, parse_call
from ..._support.errors import WrongTypeError
from ..._support.registry import Registry
from .job import Job, Need

SchemeRule = Callable[..., Any]
"""A function of a `Job` and of options by keyword; a text that it returns stands in the report."""

Decorated = TypeVar("Decorated", bound=SchemeRule)


@dataclass(frozen=True)
class Scheme:
    """A rule that sets the weights of a model, by name, with what it cannot do without."""

    name: str
    rule: SchemeRule
    needs: tuple[Need, ...] = ()
    """What has to be there before the rule is called: a batch, residual branches, a loss with its target."""
    traced: bool = True
    """Whether the rule asks which activation a layer reads: a batch then runs through the model before."""
    references: tuple[str, ...] = ()
    """Keys into references.bib."""

    def __call__(self, job: Job, options: dict[str, Any]) -> Any:
        """Set the weights of the job's layers; options that the rule does not take are an error."""
        for need in self.needs:
            job.need(need, self.name)
        job.references += self.references
        return call_with(partial(self.rule, job), options, f"the scheme {self.name}")


class SchemeRegistry(Registry[Scheme]):
    """The schemes by name; a plain function of a job becomes a scheme that needs nothing."""

    def add(self, name: str, thing: Scheme | SchemeRule) -> Scheme:
        """Register a scheme, or a function of a job, under a name."""
        if isinstance(thing, Scheme):
            return super().add(name, thing)
        registered = self._things.get(name)
        if registered is not None and registered.rule is thing:
            return registered
        return super().add(name, Scheme(name, thing))


def _check_scheme(thing: Any) -> None:
    if not callable(thing) or isinstance(thing, type):
        raise WrongTypeError(f"{thing!r} is no scheme; expected a Scheme, or a function of a Job.")


SCHEMES = SchemeRegistry(
    "scheme",
    "schemes",
    "minimand.trainability.initialization.schemes",
    accepts=_check_scheme,
    about=lambda scheme: (inspect.getdoc(scheme.rule) or "").partition("\n")[0],
)
"""The schemes of `initialize` by name."""


def scheme(
    name: str, *, needs: tuple[Need, ...] = (), traced: bool = True, references: tuple[str, ...] = ()
) -> Callable[[Decorated], Decorated]:
    """A decorator that registers a function of a `Job` as the scheme of a name; its options are those of `Scheme`."""

    def register(rule: Decorated) -> Decorated:
        SCHEMES.add(name, Scheme(name, rule, needs, traced, references))
        return rule

    return register


def list_schemes() -> dict[str, str]:
    """A line about each scheme of `initialize`, by name."""
    return SCHEMES.lines()


def read_scheme(chosen: str | Scheme | SchemeRule) -> tuple[Scheme, dict[str, Any]]:
    """The scheme and the options of a text such as `critical(q=0.5)`; or of a scheme, or a function of a job."""
    if isinstance(chosen, Scheme):
        return chosen, {}
    if callable(chosen):
        registered = next((known for known in SCHEMES.values() if known.rule is chosen), None)
        return registered or Scheme(getattr(chosen, "__name__", repr(chosen)), chosen), {}
    name, options = parse_call(chosen, "scheme")
    return SCHEMES.named(name), options
