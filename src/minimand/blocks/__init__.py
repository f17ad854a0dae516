"""The learnable blocks T that take the place of a gradient."""

from .convolutional import PaddedShortcut as PaddedShortcut
from .convolutional import Skip as Skip
from .convolutional import post_activation as post_activation
from .convolutional import pre_activation as pre_activation
from .dense import one_layer as one_layer
from .dense import two_layer as two_layer
from .densely_connected import DenseLayer as DenseLayer
from .highway import HighwayBranch as HighwayBranch
from .proximal import Prox as Prox
from .registry import BLOCKS as BLOCKS
from .registry import as_block as as_block
from .registry import block as block
from .registry import list_blocks as list_blocks
from .sparse import OnUnknown as OnUnknown
from .sparse import SoftThreshold as SoftThreshold
from .sparse import least_squares as least_squares
