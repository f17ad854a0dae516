"""Methods of training, and the loop around them."""

from .distributed.processes import LostProcessError as LostProcessError
from .fit import fit as fit
from .hooks.watching.loggers import CSVLogger as CSVLogger, TensorBoardLogger as TensorBoardLogger
from .hooks.watching.nonfinite import NonFiniteLossError as NonFiniteLossError
from .hooks.watching.progress import ShowProgress as ShowProgress
from .hooks.watching.watch import DoomedRunError as DoomedRunError
from .loop.evaluate import Evaluation as Evaluation, evaluate as evaluate
from .loop.events import Callback as Callback, EpochDone as EpochDone, Event as Event
from .loop.result import FitResult as FitResult
from .methods._registry import list_methods as list_methods
from .methods.backpropagation import Backpropagation as Backpropagation
from .methods.deep_supervision import DeepSupervision as DeepSupervision
from .methods.feasible.feasible_target_propagation import (
    FeasibleTargetPropagation as FeasibleTargetPropagation,
    Solution as Solution,
)
from .methods.local.decoupled import Decoupled as Decoupled
from .methods.local.layerwise import Ensemble as Ensemble, Layerwise as Layerwise
from .methods.method import Method as Method
from .methods.targets.target_propagation import TargetPropagation as TargetPropagation
from .methods.targets.unit_losses import LOSSES as LOSSES
from .runs.checkpoint import CheckpointError as CheckpointError
from .runs.run import Run as Run, RunError as RunError
