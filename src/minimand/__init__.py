"""minimand: deep networks whose architecture, training and initialization are each derived from an optimization problem."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .names import unknown_name

__version__ = version("minimand")

# The public names, by the module they are loaded from when first used, so that `import minimand` stays light.
_PUBLIC = {
    "algorithms": ["Algorithm", "Coefficient", "Learnable"],
    "theory": ["certify", "equivalent", "identify"],
    "networks": ["Network", "unroll"],
    "models": ["create_model", "list_models", "model_info"],
}
