"""Algorithms run with tensors."""

from .network import Network as Network
from .unrolled import Layer as Layer
from .unrolled import Unrolled as Unrolled
from .unrolled import unroll as unroll
