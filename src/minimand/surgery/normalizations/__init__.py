"""The kinds of normalization that `mm.normalize` puts into a model, a file each."""

from ._kinds import (
    NORMALIZATIONS as NORMALIZATIONS,
    BetweenLayers as BetweenLayers,
    Normalization as Normalization,
    OfWeights as OfWeights,
    Place as Place,
    list_normalizations as list_normalizations,
)
