"""Analysis of trained networks: probes of every layer, layerwise compression."""

from .compress import (
    CompressedLayer as CompressedLayer,
    Compression as Compression,
    compress as compress,
    taylor_importance as taylor_importance,
)
from .probe import (
    LayerSeparability as LayerSeparability,
    SeparabilityByLayer as SeparabilityByLayer,
    probe as probe,
)
