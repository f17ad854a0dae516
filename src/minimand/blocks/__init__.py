"""The learnable blocks T that take the place of a gradient."""

from .convolutional import (
    PaddedShortcut as PaddedShortcut,
    Skip as Skip,
    post_activation as post_activation,
    pre_activation as pre_activation,
)
from .dense import one_layer as one_layer, two_layer as two_layer
from .densely_connected import DenseLayer as DenseLayer
from .highway import HighwayBranch as HighwayBranch
from .implicit import Implicit as Implicit
from .learned_prox import (
    LearnedProx as LearnedProx,
    contraction as contraction,
    convex_convolution as convex_convolution,
    convex_gradient as convex_gradient,
)
from .proximal import (
    OnUnknown as OnUnknown,
    Prox as Prox,
    SoftThreshold as SoftThreshold,
    least_squares as least_squares,
)
from .registry import BLOCKS as BLOCKS, as_block as as_block, block as block, list_blocks as list_blocks
