"""The schemes of `initialize`, a family a file; importing them registers them."""

from . import automatic as automatic
from . import data_driven as data_driven
from . import isometry as isometry
from . import recurrent as recurrent
from . import residual as residual
from . import transformer as transformer
from . import variance as variance
from .registry import SCHEMES as SCHEMES
from .registry import read_scheme as read_scheme
