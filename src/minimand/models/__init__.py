"""Named models: one family a file, which registers its names."""

from .info import ModelInfo as ModelInfo
from .info import model_info as model_info
from .network import UnrolledNetwork as UnrolledNetwork
from .registry import create_for as create_for
from .registry import create_model as create_model
from .registry import default_model as default_model
from .registry import list_models as list_models
from .scaling import Scaled as Scaled
from .scaling import scale as scale
from .weights import from_timm as from_timm
