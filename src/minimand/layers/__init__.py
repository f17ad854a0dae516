"""Layers that torch.nn lacks: thresholds, weights of few bits, normalizations, scales of branches, auxiliary heads."""

from .heads.similarity import PredictionSimilarity as PredictionSimilarity
from .normalized_weight import operator_norm as operator_norm, weight_standardization as weight_standardization
from .residual_scale import ResidualScale as ResidualScale, ScalarBias as ScalarBias
from .space_to_depth import SpaceToDepth as SpaceToDepth
from .switchable import SwitchNorm as SwitchNorm
from .thresholds import (
    Heaviside as Heaviside,
    Opaque as Opaque,
    QuantizedReLU as QuantizedReLU,
    Sign as Sign,
    Staircase as Staircase,
    Threshold as Threshold,
    as_threshold as as_threshold,
    threshold_text as threshold_text,
)
from .weight_bits import (
    CAN_HAVE_FEW_BITS as CAN_HAVE_FEW_BITS,
    FewBitLayer as FewBitLayer,
    check_bits as check_bits,
    few_bit_weight as few_bit_weight,
)
