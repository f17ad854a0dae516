"""Spectra: of Jacobians, in theory and measured; of convolutions, of the tangent kernel and of the Hessian."""

from .curvature import TangentKernel as TangentKernel
from .curvature import hessian_extremes as hessian_extremes
from .curvature import ntk as ntk
from .jacobian import condition as condition
from .jacobian import convolution_norm as convolution_norm
from .jacobian import convolution_singular_values as convolution_singular_values
from .jacobian import singular_values as singular_values
from .jacobian_theory import SpectrumTheory as SpectrumTheory
from .jacobian_theory import density as density
from .jacobian_theory import residual as residual
from .jacobian_theory import theory as theory
