"""Operations on any model, in place: rewire, harden, normalize, remove filters; `changes` tells and undoes them."""

from .changes import Change as Change, Changes as Changes, changes as changes
from .harden import harden as harden
from .normalizations import list_normalizations as list_normalizations
from .normalize import normalize as normalize
from .remove_filters import remove_filters as remove_filters
from .rewire import rewire as rewire
