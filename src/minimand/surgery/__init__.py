"""Operations on any model, in place: rewire, harden, normalize, remove filters."""

from .harden import Hardening as Hardening
from .harden import harden as harden
from .harden import hardened as hardened
from .normalize import Normalized as Normalized
from .normalize import normalize as normalize
from .normalize import normalized as normalized
from .remove_filters import remove_filters as remove_filters
from .rewire import Rewiring as Rewiring
from .rewire import project_rewired as project_rewired
from .rewire import rewire as rewire
from .rewire import rewired as rewired
