"""Mean-field theory of wide networks at initialization."""

from .critical_points import CriticalPoint as CriticalPoint
from .critical_points import critical_point as critical_point
from .critical_points import gain as gain
from .depth_scales import DepthScales as DepthScales
from .depth_scales import depth_scales as depth_scales
from .expectations import Moments as Moments
from .layer_maps import MeanFieldLayer as MeanFieldLayer
from .layer_maps import chi as chi
from .layer_maps import correlation_map as correlation_map
from .layer_maps import length_map as length_map
from .layer_maps import moments as moments
from .layer_maps import trajectory as trajectory
