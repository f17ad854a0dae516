"""Algorithms run with tensors."""

from .as_network import as_network as as_network
from .compiled import compiled as compiled
from .protocol import Network as Network
from .unrolled import Layer as Layer
from .unrolled import Unrolled as Unrolled
from .unrolled import unroll as unroll
