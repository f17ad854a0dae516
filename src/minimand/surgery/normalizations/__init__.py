"""The kinds of normalization that `mm.normalize` puts into a model, a file each."""

from ._kinds import NORMALIZATIONS as NORMALIZATIONS
from ._kinds import BetweenLayers as BetweenLayers
from ._kinds import Normalization as Normalization
from ._kinds import OfWeights as OfWeights
from ._kinds import Place as Place
from ._kinds import list_normalizations as list_normalizations
