"""Algorithms run with tensors."""

from .as_network import as_network as as_network
from .compiled import compiled as compiled
from .filters import remove_filters as remove_filters
from .harden import Hardening as Hardening
from .harden import harden as harden
from .harden import hardened as hardened
from .network import Network as Network
from .rewire import Rewiring as Rewiring
from .rewire import project_rewired as project_rewired
from .rewire import rewire as rewire
from .rewire import rewired as rewired
from .unrolled import Layer as Layer
from .unrolled import Unrolled as Unrolled
from .unrolled import unroll as unroll
