"""Equations z = f(z), and layers whose output is their solution."""

from .block.injected import Injected as Injected
from .block.wellposed import Monotone as Monotone, lipschitz_bound as lipschitz_bound
from .choice import as_solver as as_solver
from .equilibrium import Equilibrium as Equilibrium
from .gradient import GRADIENTS as GRADIENTS, Gradient as Gradient, as_gradient as as_gradient
from .gradient_errors import (
    GradientError as GradientError,
    GradientErrors as GradientErrors,
    gradient_errors as gradient_errors,
)
from .solution import Result as Result, Solution as Solution
from .solver import SOLVERS as SOLVERS, Solver as Solver
from .solvers.anderson import Anderson as Anderson
from .solvers.broyden import Broyden as Broyden
from .solvers.coupled import Coupled as Coupled
from .solvers.fixed_point import FixedPoint as FixedPoint
from .solvers.stepped import Stepped as Stepped
from .solving import solve as solve
from .tally import Tally as Tally
