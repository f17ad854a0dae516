"""Layers that torch.nn lacks: thresholds, weights of few bits, normalizations, scales of branches, auxiliary heads."""

from .convex_gradient import ConvexGradient as ConvexGradient
from .heads import PredictionSimilarity as PredictionSimilarity
from .normalization import SwitchNorm as SwitchNorm
from .normalized_weight import operator_norm as operator_norm, weight_standardization as weight_standardization
from .reshaping import SpaceToDepth as SpaceToDepth
from .residual_scale import ResidualScale as ResidualScale, ScalarBias as ScalarBias
from .thresholds import (
    Heaviside as Heaviside,
    Opaque as Opaque,
    QuantizedReLU as QuantizedReLU,
    Sign as Sign,
    Staircase as Staircase,
    Threshold as Threshold,
    as_threshold as as_threshold,
)
from .weight_bits import FewBitLayer as FewBitLayer, few_bit_weight as few_bit_weight
