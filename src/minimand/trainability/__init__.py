"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from .normalize import Normalized as Normalized
from .normalize import normalize as normalize
from .normalize import normalized as normalized
