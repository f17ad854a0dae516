"""Hardened models that run on bits."""

from .packed import PackedModel as PackedModel
from .packed import pack as pack
