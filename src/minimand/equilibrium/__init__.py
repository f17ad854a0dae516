"""Equations z = f(z) and layers whose output is their solution."""

from .choice import as_solver as as_solver
from .solution import Result as Result, Solution as Solution
from .solver import SOLVERS as SOLVERS, Solver as Solver
from .solvers.anderson import Anderson as Anderson
from .solvers.broyden import Broyden as Broyden
from .solvers.fixed_point import FixedPoint as FixedPoint
from .solvers.stepped import Stepped as Stepped
from .solving import solve as solve
