"""The learnable blocks T that take the place of a gradient."""

from .convolutional import PaddedShortcut as PaddedShortcut
from .convolutional import Skip as Skip
from .convolutional import post_activation as post_activation
from .convolutional import pre_activation as pre_activation
from .dense import one_layer as one_layer
from .dense import two_layer as two_layer
from .densely_connected import DenseLayer as DenseLayer
from .few_bit_weight import FewBits as FewBits
from .few_bit_weight import few_bit_weight as few_bit_weight
from .highway import HighwayBranch as HighwayBranch
from .normalized_weight import operator_norm as operator_norm
from .normalized_weight import weight_standardization as weight_standardization
from .proximal import Prox as Prox
from .residual_scale import ResidualScale as ResidualScale
from .residual_scale import ScalarBias as ScalarBias
from .sparse import OnUnknown as OnUnknown
from .sparse import SoftThreshold as SoftThreshold
from .sparse import least_squares as least_squares
from .switchable import SwitchNorm as SwitchNorm
from .thresholds import Heaviside as Heaviside
from .thresholds import Opaque as Opaque
from .thresholds import QuantizedReLU as QuantizedReLU
from .thresholds import Sign as Sign
from .thresholds import Staircase as Staircase
from .thresholds import Threshold as Threshold
