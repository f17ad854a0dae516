"""What a block T contains, as far as the theorems on universality ask: found by walking the module."""

from .structure import BlockStructure as BlockStructure, Truth as Truth
from .walk import block_structure as block_structure, block_structures as block_structures
