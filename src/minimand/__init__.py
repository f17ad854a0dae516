"""minimand: networks whose architecture, training and initialization are derived from optimization problems."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ._support.errors import unknown_name
from ._support.torchvision import after_timm

if TYPE_CHECKING:
    from . import algorithms as algorithms
    from . import analysis as analysis
    from . import blocks as blocks
    from . import data as data
    from . import experiments as experiments
    from . import inference as inference
    from . import layers as layers
    from . import models as models
    from . import networks as networks
    from . import recipes as recipes
    from . import report as report
    from . import studies as studies
    from . import surgery as surgery
    from . import theory as theory
    from . import trainability as trainability
    from . import training as training
    from .algorithms._algorithm import Algorithm as Algorithm
    from .algorithms._coefficient import Coefficient as Coefficient
    from .algorithms._coefficient import Learnable as Learnable
    from .analysis.compress import compress as compress
    from .analysis.probe import probe as probe
    from .data.data import Data as Data
    from .data.registry import list_data as list_data
    from .data.registry import load_data as load_data
    from .experiments.compare import compare as compare
    from .experiments.search import search as search
    from .inference.export import export_onnx as export_onnx
    from .inference.packed import PackedModel as PackedModel
    from .inference.packed import load_packed as load_packed
    from .inference.packed import pack as pack
    from .layers.thresholds import Heaviside as Heaviside
    from .layers.thresholds import Opaque as Opaque
    from .layers.thresholds import QuantizedReLU as QuantizedReLU
    from .layers.thresholds import Sign as Sign
    from .layers.thresholds import Staircase as Staircase
    from .models.info import model_info as model_info
    from .models.network import UnrolledNetwork as UnrolledNetwork
    from .models.registry import create_model as create_model
    from .models.registry import list_models as list_models
    from .networks.as_network import as_network as as_network
    from .networks.compiled import compiled as compiled
    from .networks.protocol import Network as Network
    from .networks.unrolled import unroll as unroll
    from .recipes.augmentation import Augmentation as Augmentation
    from .recipes.optimizers import SGD as SGD
    from .recipes.optimizers import Adam as Adam
    from .recipes.optimizers import AdamW as AdamW
    from .recipes.recipe import Recipe as Recipe
    from .recipes.schedules import Cosine as Cosine
    from .recipes.schedules import OneCycle as OneCycle
    from .recipes.schedules import StepDecay as StepDecay
    from .report.citing import bibliography as bibliography
    from .report.citing import cite as cite
    from .report.explain import explain as explain
    from .surgery.harden import harden as harden
    from .surgery.normalize import normalize as normalize
    from .surgery.normalize import normalized as normalized
    from .surgery.remove_filters import remove_filters as remove_filters
    from .surgery.rewire import rewire as rewire
    from .surgery.rewire import rewired as rewired
    from .theory.certificate import certify as certify
    from .theory.equivalence import equivalent as equivalent
    from .theory.equivalence import identify as identify
    from .trainability.diagnosis.diagnose import diagnose as diagnose
    from .trainability.initialization.initialize import initialize as initialize
    from .trainability.initialization.report import InitReport as InitReport
    from .trainability.prepare import prepare as prepare
    from .training.fit import fit as fit
    from .training.loop.evaluate import evaluate as evaluate
    from .training.methods.backpropagation import Backpropagation as Backpropagation
    from .training.methods.feasible.feasible_target_propagation import (
        FeasibleTargetPropagation as FeasibleTargetPropagation,
    )
    from .training.methods.local.decoupled import Decoupled as Decoupled
    from .training.methods.local.layerwise import Layerwise as Layerwise
    from .training.methods.targets.target_propagation import TargetPropagation as TargetPropagation

__version__ = version("minimand")

# The public names by the module that defines them. They are imported when first used: `import minimand` is light.
_DEFINED_IN = {
    "algorithms._algorithm": ("Algorithm",),
    "algorithms._coefficient": (
        "Coefficient",
        "Learnable",
    ),
    "analysis.compress": ("compress",),
    "analysis.probe": ("probe",),
    "data.data": ("Data",),
    "data.registry": (
        "list_data",
        "load_data",
    ),
    "experiments.compare": ("compare",),
    "experiments.search": ("search",),
    "inference.export": ("export_onnx",),
    "inference.packed": (
        "PackedModel",
        "load_packed",
        "pack",
    ),
    "layers.thresholds": (
        "Heaviside",
        "Opaque",
        "QuantizedReLU",
        "Sign",
        "Staircase",
    ),
    "models.info": ("model_info",),
    "models.network": ("UnrolledNetwork",),
    "models.registry": (
        "create_model",
        "list_models",
    ),
    "networks.as_network": ("as_network",),
    "networks.compiled": ("compiled",),
    "networks.protocol": ("Network",),
    "networks.unrolled": ("unroll",),
    "recipes.augmentation": ("Augmentation",),
    "recipes.optimizers": ("SGD", "Adam", "AdamW"),
    "recipes.recipe": ("Recipe",),
    "recipes.schedules": ("Cosine", "OneCycle", "StepDecay"),
    "report.citing": (
        "bibliography",
        "cite",
    ),
    "report.explain": ("explain",),
    "training.fit": ("fit",),
    "surgery.harden": ("harden",),
    "surgery.normalize": (
        "normalize",
        "normalized",
    ),
    "surgery.remove_filters": ("remove_filters",),
    "surgery.rewire": (
        "rewire",
        "rewired",
    ),
    "theory.certificate": ("certify",),
    "theory.equivalence": (
        "equivalent",
        "identify",
    ),
    "trainability.diagnosis.diagnose": ("diagnose",),
    "trainability.initialization.initialize": ("initialize",),
    "trainability.initialization.report": ("InitReport",),
    "trainability.prepare": ("prepare",),
    "training.loop.evaluate": ("evaluate",),
    "training.methods.backpropagation": ("Backpropagation",),
    "training.methods.feasible.feasible_target_propagation": ("FeasibleTargetPropagation",),
    "training.methods.local.decoupled": ("Decoupled",),
    "training.methods.local.layerwise": ("Layerwise",),
    "training.methods.targets.target_propagation": ("TargetPropagation",),
}
_PACKAGES = (
    "algorithms",
    "analysis",
    "blocks",
    "data",
    "experiments",
    "inference",
    "layers",
    "models",
    "networks",
    "recipes",
    "report",
    "studies",
    "surgery",
    "theory",
    "trainability",
    "training",
)
_PUBLIC = {name: module for module, names in _DEFINED_IN.items() for name in names}

__all__ = ["__version__", *_PACKAGES, *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name.startswith("_"):
        raise AttributeError(name)
    raise AttributeError(str(unknown_name("name in minimand", name, [*_PUBLIC, *_PACKAGES])))


def __dir__() -> list[str]:
    return sorted(__all__)


after_timm(lambda: import_module(".models.timm_registry", __name__).register_in_timm())
