"""Why a network trains or does not, and what to do: theory at initialization, measures, remedies."""

from . import mean_field as mean_field, spectrum as spectrum
from .diagnosis.diagnose import TrainabilityReport as TrainabilityReport, diagnose as diagnose
from .diagnosis.remedy import Remedy as Remedy
from .diagnosis.verdict import Verdict as Verdict
from .initialization.initialize import initialize as initialize
from .initialization.report import InitReport as InitReport
from .initialization.scheme import Job as Job, Scheme as Scheme, list_schemes as list_schemes, scheme as scheme
from .mean_field.depth_scales import fluctuation_beta as fluctuation_beta
from .measure.connection import Disconnection as Disconnection
from .measure.layer_stat import LayerStat as LayerStat
from .measure.reading import NO_GRADIENT as NO_GRADIENT, NOT_MEASURED as NOT_MEASURED, Missing as Missing
from .prepare import Prepared as Prepared, list_preparations as list_preparations, prepare as prepare
from .scaling.coordinate_check import CoordinateCheck as CoordinateCheck, coordinate_check as coordinate_check
