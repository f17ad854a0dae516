"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import mean_field as mean_field
from . import spectrum as spectrum
from .diagnosis.diagnose import TrainabilityReport as TrainabilityReport
from .diagnosis.diagnose import diagnose as diagnose
from .diagnosis.verdict import Verdict as Verdict
from .initialization.initialize import initialize as initialize
from .initialization.job import Job as Job
from .initialization.report import InitReport as InitReport
from .initialization.scheme import Scheme as Scheme
from .initialization.scheme import list_schemes as list_schemes
from .initialization.scheme import scheme as scheme
from .mean_field.finite_width import fluctuation_beta as fluctuation_beta
from .measure.layer_stat import LayerStat as LayerStat
from .prepare import Prepared as Prepared
from .prepare import list_preparations as list_preparations
from .prepare import prepare as prepare
