"""Algorithms read with symbols. Nothing here needs torch but the walk through a block."""

from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .equivalence import Equivalence as Equivalence
from .equivalence import Identification as Identification
from .equivalence import equivalent as equivalent
from .equivalence import identify as identify
from .inverse import Inverse as Inverse
from .kernel import Kernel as Kernel
from .kernel import kernel as kernel
from .linear_system import LinearSystem as LinearSystem
from .linear_system import linear_system as linear_system
from .objective import LayerObjective as LayerObjective
from .objective import objective as objective
from .symbols import NonlinearStepError as NonlinearStepError
from .universality import Statement as Statement
