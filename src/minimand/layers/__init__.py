"""Layers that torch.nn lacks: thresholds, weights of few bits, normalizations, scales of branches, auxiliary heads."""

from .heads.similarity import PredictionSimilarity as PredictionSimilarity
from .normalized_weight import operator_norm as operator_norm
from .normalized_weight import weight_standardization as weight_standardization
from .residual_scale import ResidualScale as ResidualScale
from .residual_scale import ScalarBias as ScalarBias
from .space_to_depth import SpaceToDepth as SpaceToDepth
from .switchable import SwitchNorm as SwitchNorm
from .thresholds import Heaviside as Heaviside
from .thresholds import Opaque as Opaque
from .thresholds import QuantizedReLU as QuantizedReLU
from .thresholds import Sign as Sign
from .thresholds import Staircase as Staircase
from .thresholds import Threshold as Threshold
from .thresholds import as_threshold as as_threshold
from .thresholds import threshold_text as threshold_text
from .weight_bits import CAN_HAVE_FEW_BITS as CAN_HAVE_FEW_BITS
from .weight_bits import FewBitLayer as FewBitLayer
from .weight_bits import check_bits as check_bits
from .weight_bits import few_bit_weight as few_bit_weight
