"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import mean_field as mean_field
from .diagnosis.diagnose import TrainabilityReport as TrainabilityReport
from .diagnosis.diagnose import diagnose as diagnose
from .diagnosis.verdict import Verdict as Verdict
from .initialization.initialize import initialize as initialize
from .initialization.report import InitReport as InitReport
from .mean_field import spectrum as spectrum
from .mean_field.finite_width import fluctuation_beta as fluctuation_beta
from .measure.statistics import LayerStat as LayerStat
from .prepare import Prepared as Prepared
from .prepare import prepare as prepare
