"""Algorithms run with tensors."""

from .as_network import as_network as as_network
from .compiled import compiled as compiled
from .protocol import Network as Network
from .skeletons import Skeleton as Skeleton
from .skeletons import skeletons as skeletons
from .unrolled import Unrolled as Unrolled
from .unrolled import UnrolledLayer as UnrolledLayer
from .unrolled import unroll as unroll
