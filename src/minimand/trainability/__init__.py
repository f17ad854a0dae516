"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import meanfield as meanfield
from .initialize import initialize as initialize
from .report import InitReport as InitReport
