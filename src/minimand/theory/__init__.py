"""Algorithms read with symbols. Nothing here needs torch but the walk through a block and the construction."""

from typing import TYPE_CHECKING, Any

from .certificate import Certificate as Certificate, certify as certify
from .disguise.distance import distance as distance
from .disguise.equivalence import Equivalence as Equivalence, equivalent as equivalent
from .disguise.identification import Identification as Identification, identify as identify
from .dynamics.inverse import Inverse as Inverse
from .dynamics.linear_system import LinearSystem as LinearSystem, linear_system as linear_system
from .dynamics.region import StabilityRegion as StabilityRegion, stability_region as stability_region
from .feasibility import Feasibility as Feasibility, Separability as Separability, feasibility as feasibility
from .kernel import Binding as Binding, Kernel as Kernel, kernel as kernel
from .objective import LayerObjective as LayerObjective, objective as objective
from .rate import Rate as Rate, plot_rate as plot_rate, rate as rate
from .symbols import NonlinearStepError as NonlinearStepError
from .universality import Statement as Statement, pulses as pulses

if TYPE_CHECKING:
    from .construction import (
        DeepNarrow as DeepNarrow,
        ShallowAttention as ShallowAttention,
        ShallowConvolution as ShallowConvolution,
        construct as construct,
    )


def __getattr__(name: str) -> Any:
    if name in ("construct", "DeepNarrow", "ShallowAttention", "ShallowConvolution"):
        from . import construction  # it builds modules, so it brings torch

        return getattr(construction, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
