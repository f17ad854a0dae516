"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import meanfield as meanfield
from . import spectrum as spectrum
from .diagnose import TrainabilityReport as TrainabilityReport
from .diagnose import diagnose as diagnose
from .finite_width import fluctuation_beta as fluctuation_beta
from .initialize import initialize as initialize
from .normalize import Normalized as Normalized
from .normalize import normalize as normalize
from .normalize import normalized as normalized
from .report import InitReport as InitReport
from .statistics import LayerStat as LayerStat
from .verdict import Verdict as Verdict
