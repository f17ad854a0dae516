"""Mean-field theory of wide networks at initialization."""

from .activation import Moments as Moments
from .critical_points import CriticalPoint as CriticalPoint, critical_point as critical_point, gain as gain
from .depth_scales import DepthScales as DepthScales, depth_scales as depth_scales
from .layer_maps import (
    MeanFieldLayer as MeanFieldLayer,
    chi as chi,
    correlation_map as correlation_map,
    length_map as length_map,
    moments as moments,
    trajectory as trajectory,
)
