"""minimand: networks whose architecture, training and initialization are derived from optimization problems."""

import sys
from importlib import import_module
from importlib.metadata import version
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from ._support.errors import unknown_name

if TYPE_CHECKING:
    from . import (
        algorithms as algorithms,
        analysis as analysis,
        blocks as blocks,
        data as data,
        experiments as experiments,
        inference as inference,
        layers as layers,
        models as models,
        networks as networks,
        recipes as recipes,
        report as report,
        studies as studies,
        surgery as surgery,
        theory as theory,
        trainability as trainability,
        training as training,
    )
    from .algorithms._algorithm import Algorithm as Algorithm
    from .algorithms._coefficient import Coefficient as Coefficient, Learnable as Learnable
    from .algorithms._registry import list_algorithms as list_algorithms
    from .analysis.compress import compress as compress
    from .analysis.probe import probe as probe
    from .blocks.registry import list_blocks as list_blocks
    from .cli.commands._registry import list_commands as list_commands
    from .data.data import Data as Data
    from .data.registry import list_data as list_data, load_data as load_data
    from .experiments.citing import bibliography as bibliography, cite as cite
    from .experiments.compare import compare as compare
    from .experiments.search import search as search
    from .experiments.study import list_studies as list_studies
    from .inference.export import export_onnx as export_onnx
    from .inference.packed import PackedModel as PackedModel, load_packed as load_packed, pack as pack
    from .layers.thresholds import (
        Heaviside as Heaviside,
        Opaque as Opaque,
        QuantizedReLU as QuantizedReLU,
        Sign as Sign,
        Staircase as Staircase,
    )
    from .models.info import model_info as model_info
    from .models.network import UnrolledNetwork as UnrolledNetwork
    from .models.registry import create_model as create_model, list_models as list_models
    from .networks.as_network import Network as Network, as_network as as_network
    from .networks.compiled import compiled as compiled
    from .networks.unrolled import unroll as unroll
    from .recipes.augmentation import Augmentation as Augmentation
    from .recipes.optimizers import SGD as SGD, Adam as Adam, AdamW as AdamW
    from .recipes.recipe import Recipe as Recipe
    from .recipes.schedules import Cosine as Cosine, OneCycle as OneCycle, StepDecay as StepDecay
    from .report.explain import explain as explain
    from .surgery.changes import changes as changes
    from .surgery.harden import harden as harden
    from .surgery.normalizations import list_normalizations as list_normalizations
    from .surgery.normalize import normalize as normalize
    from .surgery.remove_filters import remove_filters as remove_filters
    from .surgery.rewire import rewire as rewire
    from .theory.certificate import certify as certify
    from .theory.equivalence import equivalent as equivalent, identify as identify
    from .trainability.diagnosis.diagnose import diagnose as diagnose
    from .trainability.initialization.initialize import initialize as initialize
    from .trainability.initialization.report import InitReport as InitReport
    from .trainability.initialization.scheme import list_schemes as list_schemes
    from .trainability.prepare import prepare as prepare
    from .training.fit import fit as fit
    from .training.loop.evaluate import evaluate as evaluate
    from .training.methods._registry import list_methods as list_methods
    from .training.methods.backpropagation import Backpropagation as Backpropagation
    from .training.methods.feasible.feasible_target_propagation import (
        FeasibleTargetPropagation as FeasibleTargetPropagation,
    )
    from .training.methods.local.decoupled import Decoupled as Decoupled
    from .training.methods.local.layerwise import Layerwise as Layerwise
    from .training.methods.method import Method as Method
    from .training.methods.targets.target_propagation import TargetPropagation as TargetPropagation

__version__ = version("minimand")

# The public names by the module that defines them; `minimand list` reads here which kinds there are. They are imported
# when first used: `import minimand` is light.
_DEFINED_IN = {
    "algorithms._algorithm": ("Algorithm",),
    "algorithms._coefficient": ("Coefficient", "Learnable"),
    "algorithms._registry": ("list_algorithms",),
    "analysis.compress": ("compress",),
    "analysis.probe": ("probe",),
    "blocks.registry": ("list_blocks",),
    "cli.commands._registry": ("list_commands",),
    "data.data": ("Data",),
    "data.registry": ("list_data", "load_data"),
    "experiments.citing": ("bibliography", "cite"),
    "experiments.compare": ("compare",),
    "experiments.search": ("search",),
    "experiments.study": ("list_studies",),
    "inference.export": ("export_onnx",),
    "inference.packed": ("PackedModel", "load_packed", "pack"),
    "layers.thresholds": ("Heaviside", "Opaque", "QuantizedReLU", "Sign", "Staircase"),
    "models.info": ("model_info",),
    "models.network": ("UnrolledNetwork",),
    "models.registry": ("create_model", "list_models"),
    "networks.as_network": ("Network", "as_network"),
    "networks.compiled": ("compiled",),
    "networks.unrolled": ("unroll",),
    "recipes.augmentation": ("Augmentation",),
    "recipes.optimizers": ("Adam", "AdamW", "SGD"),
    "recipes.recipe": ("Recipe",),
    "recipes.schedules": ("Cosine", "OneCycle", "StepDecay"),
    "report.explain": ("explain",),
    "surgery.changes": ("changes",),
    "surgery.harden": ("harden",),
    "surgery.normalizations": ("list_normalizations",),
    "surgery.normalize": ("normalize",),
    "surgery.remove_filters": ("remove_filters",),
    "surgery.rewire": ("rewire",),
    "theory.certificate": ("certify",),
    "theory.equivalence": ("equivalent", "identify"),
    "trainability.diagnosis.diagnose": ("diagnose",),
    "trainability.initialization.initialize": ("initialize",),
    "trainability.initialization.report": ("InitReport",),
    "trainability.initialization.scheme": ("list_schemes",),
    "trainability.prepare": ("prepare",),
    "training.fit": ("fit",),
    "training.loop.evaluate": ("evaluate",),
    "training.methods._registry": ("list_methods",),
    "training.methods.backpropagation": ("Backpropagation",),
    "training.methods.feasible.feasible_target_propagation": ("FeasibleTargetPropagation",),
    "training.methods.local.decoupled": ("Decoupled",),
    "training.methods.local.layerwise": ("Layerwise",),
    "training.methods.method": ("Method",),
    "training.methods.targets.target_propagation": ("TargetPropagation",),
}
_PACKAGES = [part.name for part in iter_modules(__path__) if part.ispkg and part.name not in ("_support", "cli")]
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


if sys.modules.get("timm") is not None:  # after it our models join its registry; before it, by minimand.vision
    import_module(".models.timm_registry", __name__).register_in_timm()
