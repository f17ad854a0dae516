"""Algorithms run with tensors: networks whose layers are their steps."""

from .as_network import as_network as as_network
from .compiled import compiled as compiled
from .kinds import count_parameters as count_parameters
from .protocol import Network as Network
from .skeletons import Skeleton as Skeleton, skeletons as skeletons
from .unrolled import Unrolled as Unrolled, UnrolledLayer as UnrolledLayer, unroll as unroll
