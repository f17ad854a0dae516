"""Named models."""

from .network import UnrolledNetwork as UnrolledNetwork
from .registry import ModelInfo as ModelInfo
from .registry import create_model as create_model
from .registry import list_models as list_models
from .registry import model_info as model_info
