"""minimand: networks whose architecture, training and initialization are derived from optimization problems."""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ._support.errors import unknown_name

if TYPE_CHECKING:
    from . import studies as studies
    from .algorithms import Algorithm as Algorithm, Coefficient as Coefficient, Drawn as Drawn, Learnable as Learnable
    from .algorithms._registry import list_algorithms as list_algorithms
    from .analysis import compress as compress, probe as probe
    from .blocks import Implicit as Implicit, list_blocks as list_blocks
    from .cli.commands._registry import list_commands as list_commands
    from .data import Data as Data, list_data as list_data, load_data as load_data
    from .equilibrium import (
        Anderson as Anderson,
        Broyden as Broyden,
        Coupled as Coupled,
        Equilibrium as Equilibrium,
        FixedPoint as FixedPoint,
    )
    from .experiments import compare as compare, list_studies as list_studies, search as search
    from .experiments.citing import bibliography as bibliography, cite as cite
    from .experiments.predict import predict as predict
    from .experiments.reopen import load as load
    from .inference import PackedModel as PackedModel, load_packed as load_packed, pack as pack
    from .inference.export import export_onnx as export_onnx
    from .layers import (
        Heaviside as Heaviside,
        Opaque as Opaque,
        QuantizedReLU as QuantizedReLU,
        Sign as Sign,
        Staircase as Staircase,
    )
    from .models import UnrolledNetwork as UnrolledNetwork, create_model as create_model, list_models as list_models
    from .models.info import model_info as model_info
    from .networks import Network as Network, as_network as as_network, compiled as compiled, unroll as unroll
    from .recipes import Augmentation as Augmentation, Recipe as Recipe
    from .recipes.optimizers import SGD as SGD, Adam as Adam, AdamW as AdamW, Muon as Muon
    from .recipes.registry import list_recipes as list_recipes, recipe as recipe
    from .recipes.schedules import Cosine as Cosine, OneCycle as OneCycle, StepDecay as StepDecay
    from .recipes.torch_optimizer import TorchOptimizer as TorchOptimizer
    from .report import explain as explain, summary as summary
    from .surgery import (
        changes as changes,
        harden as harden,
        list_normalizations as list_normalizations,
        normalize as normalize,
        remove_filters as remove_filters,
        rewire as rewire,
    )
    from .theory import certify as certify, equivalent as equivalent, identify as identify
    from .trainability import (
        InitReport as InitReport,
        diagnose as diagnose,
        initialize as initialize,
        list_schemes as list_schemes,
        prepare as prepare,
    )
    from .training import (
        Backpropagation as Backpropagation,
        CSVLogger as CSVLogger,
        Decoupled as Decoupled,
        DeepSupervision as DeepSupervision,
        FeasibleTargetPropagation as FeasibleTargetPropagation,
        Layerwise as Layerwise,
        Method as Method,
        TargetPropagation as TargetPropagation,
        TensorBoardLogger as TensorBoardLogger,
        evaluate as evaluate,
        fit as fit,
        list_methods as list_methods,
    )

__version__ = version("minimand")

# The public names by what exports them; `minimand list` reads here which kinds there are. They are imported when first
# used: `import minimand` is light.
_NAMES = {
    "algorithms": "Algorithm Coefficient Drawn Learnable",
    "algorithms._registry": "list_algorithms",
    "analysis": "compress probe",
    "blocks": "Implicit list_blocks",
    "cli.commands._registry": "list_commands",
    "data": "Data list_data load_data",
    "equilibrium": "Anderson Broyden Coupled Equilibrium FixedPoint",
    "experiments": "compare list_studies search",
    "experiments.citing": "bibliography cite",
    "experiments.predict": "predict",
    "experiments.reopen": "load",
    "inference": "PackedModel load_packed pack",
    "inference.export": "export_onnx",
    "layers": "Heaviside Opaque QuantizedReLU Sign Staircase",
    "models": "UnrolledNetwork create_model list_models",
    "models.info": "model_info",
    "networks": "Network as_network compiled unroll",
    "recipes": "Augmentation Recipe",
    "recipes.optimizers": "SGD Adam AdamW Muon",
    "recipes.registry": "list_recipes recipe",
    "recipes.schedules": "Cosine OneCycle StepDecay",
    "recipes.torch_optimizer": "TorchOptimizer",
    "report": "explain summary",
    "surgery": "changes harden list_normalizations normalize remove_filters rewire",
    "theory": "certify equivalent identify",
    "trainability": "InitReport diagnose initialize list_schemes prepare",
    "training": "Backpropagation CSVLogger Decoupled DeepSupervision FeasibleTargetPropagation Layerwise Method "
    "TargetPropagation TensorBoardLogger evaluate fit list_methods",
}
_PACKAGES = [*(package for package in _NAMES if "." not in package), "studies"]
_PUBLIC = {name: package for package, names in _NAMES.items() for name in names.split()}

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
