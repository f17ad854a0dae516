"""Spectra: of Jacobians, in theory and measured; of convolutions, of the tangent kernel and of the Hessian."""

from .curvature import TangentKernel as TangentKernel, hessian_extremes as hessian_extremes, ntk as ntk
from .jacobian import (
    condition as condition,
    convolution_norm as convolution_norm,
    convolution_singular_values as convolution_singular_values,
    singular_values as singular_values,
)
from .jacobian_theory import (
    SpectrumTheory as SpectrumTheory,
    density as density,
    residual as residual,
    theory as theory,
)
