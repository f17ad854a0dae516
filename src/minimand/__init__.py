"""minimand: networks whose architecture, training and initialization are derived from optimization problems."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .names import unknown_name
from .vision import after_timm

if TYPE_CHECKING:
    from . import algorithms as algorithms
    from . import blocks as blocks
    from . import data as data
    from . import inference as inference
    from . import models as models
    from . import networks as networks
    from . import report as report
    from . import studies as studies
    from . import theory as theory
    from . import trainability as trainability
    from . import training as training
    from .algorithms import Algorithm as Algorithm
    from .algorithms import Coefficient as Coefficient
    from .algorithms import Learnable as Learnable
    from .blocks import Heaviside as Heaviside
    from .blocks import Opaque as Opaque
    from .blocks import QuantizedReLU as QuantizedReLU
    from .blocks import Sign as Sign
    from .blocks import Staircase as Staircase
    from .citing import bibliography as bibliography
    from .citing import cite as cite
    from .data import Augmentation as Augmentation
    from .data import Data as Data
    from .data import list_data as list_data
    from .data import load_data as load_data
    from .inference import PackedModel as PackedModel
    from .inference import export_onnx as export_onnx
    from .inference import load_packed as load_packed
    from .inference import pack as pack
    from .models import UnrolledNetwork as UnrolledNetwork
    from .models import create_model as create_model
    from .models import list_models as list_models
    from .models import model_info as model_info
    from .networks import Network as Network
    from .networks import as_network as as_network
    from .networks import compiled as compiled
    from .networks import harden as harden
    from .networks import remove_filters as remove_filters
    from .networks import rewire as rewire
    from .networks import rewired as rewired
    from .networks import unroll as unroll
    from .report import explain as explain
    from .report import fit as fit
    from .studies import compare as compare
    from .studies import search as search
    from .theory import certify as certify
    from .theory import equivalent as equivalent
    from .theory import identify as identify
    from .trainability import InitReport as InitReport
    from .trainability import diagnose as diagnose
    from .trainability import initialize as initialize
    from .trainability import normalize as normalize
    from .trainability import normalized as normalized
    from .training import SGD as SGD
    from .training import Adam as Adam
    from .training import AdamW as AdamW
    from .training import Backpropagation as Backpropagation
    from .training import Cosine as Cosine
    from .training import Decoupled as Decoupled
    from .training import FeasibleTargetPropagation as FeasibleTargetPropagation
    from .training import Layerwise as Layerwise
    from .training import OneCycle as OneCycle
    from .training import Recipe as Recipe
    from .training import Step as Step
    from .training import TargetPropagation as TargetPropagation
    from .training import compress as compress
    from .training import evaluate as evaluate
    from .training import prepare as prepare
    from .training import probe as probe

__version__ = version("minimand")

# The public names by the module that defines them. They are imported when first used: `import minimand` is light.
_DEFINED_IN = {
    "algorithms": ("Algorithm", "Coefficient", "Learnable"),
    "blocks": ("Heaviside", "Opaque", "QuantizedReLU", "Sign", "Staircase"),
    "citing": ("bibliography", "cite"),
    "data": ("Augmentation", "Data", "list_data", "load_data"),
    "inference": ("PackedModel", "export_onnx", "load_packed", "pack"),
    "models": ("UnrolledNetwork", "create_model", "list_models", "model_info"),
    "networks": ("Network", "as_network", "compiled", "harden", "remove_filters", "rewire", "rewired", "unroll"),
    "report": ("explain", "fit"),
    "studies": ("compare", "search"),
    "theory": ("certify", "equivalent", "identify"),
    "trainability": ("InitReport", "diagnose", "initialize", "normalize", "normalized"),
    "training": (
        "Adam",
        "AdamW",
        "Backpropagation",
        "Cosine",
        "Decoupled",
        "FeasibleTargetPropagation",
        "Layerwise",
        "OneCycle",
        "Recipe",
        "SGD",
        "Step",
        "TargetPropagation",
        "compress",
        "evaluate",
        "prepare",
        "probe",
    ),
}
_PUBLIC = {name: module for module, names in _DEFINED_IN.items() for name in names}

__all__ = ["__version__", *_DEFINED_IN, *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name in _DEFINED_IN:
        return import_module(f".{name}", __name__)
    if name.startswith("_"):
        raise AttributeError(name)
    raise AttributeError(str(unknown_name("name in minimand", name, [*_PUBLIC, *_DEFINED_IN])))


def __dir__() -> list[str]:
    return sorted(__all__)


after_timm(lambda: import_module(".models.timm_registry", __name__).register_in_timm())
