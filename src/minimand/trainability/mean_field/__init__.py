"""Mean-field theory of wide networks at initialization."""

from . import spectrum as spectrum
from .meanfield import CriticalPoint as CriticalPoint
from .meanfield import DepthScales as DepthScales
from .meanfield import chi as chi
from .meanfield import correlation_map as correlation_map
from .meanfield import critical_point as critical_point
from .meanfield import depth_scales as depth_scales
from .meanfield import gain as gain
from .meanfield import length_map as length_map
from .meanfield import moments as moments
from .meanfield import trajectory as trajectory
