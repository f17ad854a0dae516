"""Experiments: one published table a file, and comparisons of anybody's choice."""

from importlib import import_module

from .compare import Comparison as Comparison
from .compare import compare as compare
from .running import StudyResult as StudyResult
from .running import read_study as read_study
from .running import run_study as run_study
from .search import search as search
from .search_result import Search as Search
from .study import list_studies as list_studies

# Studies register their names, and are listed in this order.
for _study in (
    "simulation",
    "rings",
    "parity",
    "telgarsky",
    "hb_agd",
    "optdnn",
    "apg2",
    "rewired",
    "gallery",
    "explosion",
    "initialization",
    "bn_explosion",
    "trainable_depth",
    "no_normalization",
    "tanh_cnn",
    "batch_size",
    "regularization",
    "greedy",
    "layerwise_cost",
    "separability",
    "compression",
    "decoupled",
    "slow_modules",
    "thresholds",
    "imagenet_thresholds",
    "ftprop",
    "packed",
):
    import_module(f"{__package__}.{_study}")
