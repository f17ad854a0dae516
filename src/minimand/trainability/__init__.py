"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import meanfield as meanfield
from . import spectrum as spectrum
from .finite_width import fluctuation_beta as fluctuation_beta
from .normalize import Normalized as Normalized
from .normalize import normalize as normalize
from .normalize import normalized as normalized
