"""Training that ends with a page about the run."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from .. import training
from ..training.distributed.processes import leads
from ..training.loop.result import FitResult
from .page import write_report

P = ParamSpec("P")


def _reported(train: Callable[P, FitResult]) -> Callable[P, FitResult]:
    @wraps(train)
    def with_report(*args: P.args, **kwargs: P.kwargs) -> FitResult:
        result = train(*args, **kwargs)
        if result.run is not None and leads():
            write_report(result)
        return result

    return with_report


fit = _reported(training.fit)
"""`minimand.training.fit`, which leaves report.html in the run's folder."""
