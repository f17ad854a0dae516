"""Analysis of trained networks: probes of every layer, layerwise compression."""

from .compress import CompressedLayer as CompressedLayer
from .compress import Compression as Compression
from .compress import compress as compress
from .compress import taylor_importance as taylor_importance
from .probe import probe as probe
from .separability import LayerSeparability as LayerSeparability
from .separability import SeparabilityByLayer as SeparabilityByLayer
