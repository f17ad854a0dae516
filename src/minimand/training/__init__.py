"""Methods of training, and the loop around them."""

from .backpropagation import Backpropagation as Backpropagation
from .checkpoint import CheckpointError as CheckpointError
from .evaluate import Evaluation as Evaluation
from .evaluate import evaluate as evaluate
from .fit import FitResult as FitResult
from .fit import fit as fit
from .layerwise import Layerwise as Layerwise
from .method import Method as Method
from .nonfinite import NonFiniteLossError as NonFiniteLossError
from .preparation import Prepared as Prepared
from .preparation import prepare as prepare
from .progress import ShowProgress as ShowProgress
from .recipe import SGD as SGD
from .recipe import Adam as Adam
from .recipe import AdamW as AdamW
from .recipe import Cosine as Cosine
from .recipe import OneCycle as OneCycle
from .recipe import Recipe as Recipe
from .recipe import Step as Step
from .recipe import default_recipe as default_recipe
from .run import Run as Run
from .run import RunError as RunError
from .target_losses import LOSSES as LOSSES
from .target_propagation import TargetPropagation as TargetPropagation
from .watch import DoomedRunError as DoomedRunError
