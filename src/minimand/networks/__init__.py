"""Algorithms run with tensors."""

from .unrolled import Layer as Layer
from .unrolled import Unrolled as Unrolled
from .unrolled import unroll as unroll
