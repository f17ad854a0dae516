"""The certificate of an algorithm: what its network can express and whether it is stable and reversible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .._support.errors import MinimandError
from .._support.tables import table_html, table_text
from ..algorithms import Algorithm, as_algorithm, is_map
from .dynamics.gains import Gains, gains_by_layer, gains_text
from .dynamics.inverse import Inverse, inverse
from .dynamics.linear_system import Pole
from .dynamics.region import StabilityRegion
from .dynamics.stability import Order, Stability, tail, zero_stability
from .dynamics.start import order_of_network, with_start
from .kernel import (
    AlgorithmLike,
    Binding,
    Kernel,
    check_binding,
    check_depth,
    consistency,
    extended,
    kernel,
)
from .oracles import DivisionByZeroError, check_count
from .promises import NORMALIZED, boundedness, of_channels, second_input, tables, what_is_drawn
from .rate import Rate, rate as worst_case
from .scalars import sum_text
from .splitting import HALVES, STEPS, TURNS, Splitting, check_splitting
from .universality import Evidence, Statement, statements
from .universality.rows import Row, universality_in_brief, universality_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .block import BlockStructure


@dataclass(frozen=True)
class Certificate:
    """Facts about a network: consistency, stability and order of the gradient; gains and universality of blocks T."""

    algorithm: str
    depth: int
    binding: Binding
    consistent: bool
    zero_stable: bool | None
    """None where a part of the state is normalized, of which linear theory says nothing."""
    growth: float | None
    """The largest response to one answer, over 4 x depth, where `zero_stable` is a numerical verdict."""
    order: int | None
    """The order of accuracy for x' = -gradient(x) once time is rescaled by `speed`; None where that means nothing."""
    speed: Fraction | None
    gains: Gains
    """How strongly the block of each layer reaches the output; by oracle where a step asks several."""
    reversible: bool
    """Whether the state runs backwards in closed form, whatever the blocks are."""
    inverse: Inverse
    statements: tuple[Statement, ...]
    poles: tuple[Pole, ...] | None
    """The poles of the linear system; None where the coefficients vary with depth or memory grows."""
    multistep: tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None
    """(rho, sigma) of the linear multistep method that the queries follow, from the highest power down."""
    region: StabilityRegion | None
    """The step sizes on quadratics that keep the steps bounded; None where there are no poles."""
    memory: tuple[int, int]
    """The number of tensors that the state holds at the start and at the end."""
    exact: bool
    reasons: Mapping[str, str]
    rate: Rate | None = None
    """The worst case after as many steps as there are layers; None where `certify` was not given `rate`."""
    ends: Mapping[str, Certificate] = field(default_factory=dict)
    """The certificates with each learnable coefficient at either bound."""
    splitting: Splitting | None = None
    """How the layers of a transformer are cut into blocks; None for blocks as they are."""
    kernel: Kernel = field(repr=False, compare=False, kw_only=True)
    """Every query as a combination of the input and the blocks' answers."""
    gradients: Kernel = field(repr=False, compare=False, kw_only=True)
    """Every query as a combination of the input and the gradients' answers."""

    @property
    def universal(self) -> tuple[Statement, ...]:
        """The statements on universality that hold; empty if none does."""
        return tuple(s for s in self.statements if s.holds)

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain numbers, strings, lists and dictionaries."""
        return {
            "algorithm": self.algorithm,
            "depth": self.depth,
            "binding": self.binding,
            "splitting": self.splitting,
            "consistent": self.consistent,
            "zero_stable": self.zero_stable,
            "growth": self.growth,
            "order": self.order,
            "speed": None if self.speed is None else float(self.speed),
            "gains": {k: list(v) for k, v in self.gains.items()} if isinstance(self.gains, dict) else list(self.gains),
            "reversible": self.reversible,
            "inverse": str(self.inverse),
            "universal": [str(s) for s in self.universal],
            "not_covered": [str(s) for s in self.statements if s.verdict == "not covered"],
            "not_universal": [str(s) for s in self.statements if s.verdict == "not universal"],
            "poles": None if self.poles is None else [[p.value.real, p.value.imag, p.multiplicity] for p in self.poles],
            "rho": None if self.multistep is None else [float(c) for c in self.multistep[0]],
            "sigma": None if self.multistep is None else [float(c) for c in self.multistep[1]],
            "largest_curvature": None if self.region is None else self.region.largest_curvature,
            "memory": list(self.memory),
            "exact": self.exact,
            "reasons": dict(self.reasons),
            "rate": None if self.rate is None else asdict(self.rate),
            "ends": {name: end.to_dict() for name, end in self.ends.items()},
        }

    def plot(self) -> Figure:
        """Draw the poles, the stability region, the gains by layer and the wiring diagram (extra `plots`)."""
        from .drawing import draw_certificate

        return draw_certificate(self)

    def rows(self) -> list[Row]:
        """The certificate as rows of (property, verdict, reason)."""
        first, last = self.memory
        rows = [
            ("consistent", _yes(self.consistent), self.reasons["consistent"]),
            ("zero-stable", _yes(self.zero_stable), self.reasons["zero_stable"]),
            ("order", "-" if self.order is None else str(self.order), self.reasons["order"]),
        ]
        if self.multistep is not None:
            rho, sigma = map(_polynomial_text, self.multistep)
            rows.append(("multistep form", "", f"rho = {rho},  sigma = {sigma}"))
        if self.region is not None:
            rows.append(("on quadratics", "", str(self.region)))
        rows += [
            (name, "", self.reasons[name])
            for name in ("bounded", "second input", "learned", "channels", "drawn", "undefined")
            if self.reasons[name]
        ]
        rows.append(("gains", *gains_text(self.gains)))
        if self.binding == "operator":
            rows.append(("  of T - identity", *gains_text(gains_by_layer(self.gradients, -1))))
        rows.append(("reversible", _yes(self.reversible), str(self.inverse)))
        growing = f"grows from {first} to {last} tensors with depth" if last > first else "the same at any depth"
        rows.append(("memory", str(last), growing))
        rows += universality_rows(self.statements)
        alike: dict[str, list[str]] = {}
        for name, end in self.ends.items():
            alike.setdefault(end.brief, []).append(name)
        rows += [("at bounds", "", f"{', '.join(names)}: {brief}") for brief, names in alike.items()]
        if self.rate is not None:
            rows.append(("worst case", "", str(self.rate)))
        if not self.exact:
            rows.append(("numbers", "", "coefficients that are not simple fractions were compared to 1e-9"))
        return rows

    @property
    def brief(self) -> str:
        """The verdicts of the certificate in a line."""
        return (
            f"consistent {_yes(self.consistent)}, "
            f"zero-stable {_yes(self.zero_stable)}, "
            f"reversible {_yes(self.reversible)}, {universality_in_brief(self.statements)}"
        )

    def __str__(self) -> str:
        return table_text(("", "", ""), self.rows(), self.title)

    def __repr__(self) -> str:
        return f"<certificate of {self.title}>"

    def _repr_html_(self) -> str:
        return table_html(("", "", ""), self.rows(), self.title)

    @property
    def title(self) -> str:
        """The algorithm, the number of layers and the binding in a line."""
        if self.splitting is None:
            return f"{self.algorithm}, {self.depth} layers, {self.binding} binding"
        steps = STEPS[self.splitting]
        cut = f"{self.depth // steps} layers of {steps} step{'s' * (steps > 1)} ({self.splitting} splitting)"
        return f"{self.algorithm}, {cut}, {self.binding} binding"


def certify(
    algorithm: AlgorithmLike,
    depth: int = 20,
    binding: Binding = "residual",
    width: int | None = None,
    d_in: int | None = None,
    d_out: int | None = None,
    block: Any = None,
    rate: tuple[float, float] | None = None,
    splitting: Splitting | None = None,
) -> Certificate:
    """Certify the network that an algorithm gives.

    Learnable coefficients count with their current values; both bounds are certified too. A step that is not linear in
    states and answers raises NonlinearStepError, with the operation and the line.

    Args:
        algorithm: an algorithm, its class, or a name (`"heavy_ball(momentum=0.9)"`).
        depth: the number of layers.
        binding: how a block T becomes a gradient: `residual`, -T(x), or `operator`, x - T(x).
        width: the size of the state; a size (also `d_in` of the input, `d_out` of the output) that is None becomes a
            proviso.
        block: a module, walked to see what it holds; of a step that asks several oracles, or of a layer that is cut,
            a mapping or a list of its modules.
        splitting: of a transformer, how its layers are cut into blocks; `lie_trotter` makes two steps a layer, so the
            network has 2 x depth of them.
        rate: (mu, L); also find the worst case over mu-strongly convex, L-smooth functions (extra `theory`).
    """
    algorithm = as_algorithm(algorithm)
    if binding is None:
        raise MinimandError("binding is None; expected 'residual' or 'operator'.")
    check_binding(binding)
    _check_sizes(depth, width=width, d_in=d_in, d_out=d_out)
    if splitting is not None:
        check_splitting(splitting, [oracle for oracle in algorithm.oracles if not is_map(oracle)])
    steps = depth * (STEPS[splitting] if splitting else 1)
    structures: tuple[BlockStructure, ...] = ()
    if block is not None:
        from .block import block_structures

        structures = block_structures(block)
    name, algorithm = str(algorithm), extended(algorithm, steps)
    # At either bound of one learnable coefficient the others are functions: their ends are not certified in turn.
    free = {**algorithm.learnable(), **algorithm.drawn()}
    current = {coefficient: c.__call__ for coefficient, c in free.items()}
    sizes = width, d_in, d_out
    whole = _split(_certificate(name, algorithm, steps, binding, sizes, structures, splitting))
    ends, undefined = {}, []
    for coefficient, c in free.items():
        # A table with a bound in every entry tells nothing of those between.
        for value in () if algorithm.shape(coefficient, 0) else (c.low, c.high):
            end, at = algorithm.rebind(**{**current, coefficient: value}), f"{coefficient} = {value:g}"
            try:
                ends[at] = certify(end, depth, binding, *sizes, block, splitting=splitting)
            except DivisionByZeroError:
                undefined.append(f"at {at}, where a step divides by 0; keep the bounds away from it")
    worst = None if rate is None else worst_case(algorithm, *rate, steps=steps)
    return replace(whole, rate=worst, ends=ends, reasons={**whole.reasons, "undefined": "; ".join(undefined)})


def _check_sizes(depth: int, **sizes: int | None) -> None:
    check_depth(depth)
    for name, size in sizes.items():
        if size is not None:
            check_count(name, size)


def _split(certificate: Certificate) -> Certificate:
    """The certificate with the order that cut layers leave."""
    splitting = certificate.splitting
    if splitting is None or STEPS[splitting] == 1 or certificate.order is None:
        return certificate
    reason = TURNS + HALVES * (splitting == "strang")
    return replace(certificate, order=min(certificate.order, 1), reasons={**certificate.reasons, "order": reason})


def _certificate(
    name: str,
    algorithm: Algorithm,
    depth: int,
    binding: Binding,
    sizes: tuple[int | None, int | None, int | None],
    structures: tuple[BlockStructure, ...],
    splitting: Splitting | None,
) -> Certificate:
    """The certificate of an algorithm with its current coefficients; sizes are (width, d_in, d_out)."""
    gradients = kernel(algorithm, depth)
    if not gradients.output.terms:
        raise MinimandError(f"{type(algorithm).__name__}.read returned 0, whatever the input and the answers are.")
    bound = kernel(algorithm, depth, binding)
    constant = tail(gradients.steps, depth)
    consistent, why_consistent = consistency(gradients)
    if gradients.maps:
        stability, accuracy = Stability(None, NORMALIZED), Order(None, NORMALIZED)
    else:
        stability = zero_stability(gradients.steps, depth, constant)
        accuracy = order_of_network(gradients.steps, constant)
    backwards = inverse(gradients.steps, depth, binding, constant)
    rest = *sizes, structures, splitting
    evidence = Evidence(algorithm, binding, gradients, consistent, stability, accuracy, constant, *rest)
    return Certificate(
        algorithm=name,
        depth=depth,
        binding=binding,
        consistent=consistent,
        zero_stable=stability.stable,
        growth=stability.bound,
        order=accuracy.order,
        speed=accuracy.speed,
        gains=gains_by_layer(bound),
        reversible=backwards.kind == "closed form" and not backwards.stored,
        inverse=backwards,
        statements=statements(evidence),
        poles=None if constant is None or gradients.maps else constant.system.poles,
        multistep=None if constant is None or gradients.maps else constant.system.multistep,
        region=None if constant is None or gradients.maps else StabilityRegion(name, constant.system, constant.oracles),
        memory=(gradients.memory[0], gradients.memory[-1]),
        splitting=splitting,
        exact=gradients.exact,
        reasons={
            "consistent": why_consistent,
            "zero_stable": stability.reason,
            "order": accuracy.reason + with_start(gradients.steps, constant, accuracy),
            "block": "; ".join(dict.fromkeys(structure.reason for structure in structures)),
            "bounded": boundedness(gradients),
            "second input": second_input(algorithm, gradients),
            "learned": tables(algorithm, depth),
            "channels": of_channels(algorithm),
            "drawn": what_is_drawn(algorithm, depth),
            "undefined": "",
        },
        kernel=bound,
        gradients=gradients,
    )


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _polynomial_text(coefficients: tuple[Fraction, ...]) -> str:
    """A polynomial in z, of coefficients from the highest power down."""
    powers = ["", "z", *(f"z^{degree}" for degree in range(2, len(coefficients)))]
    terms = zip(coefficients, reversed(powers[: len(coefficients)]), strict=True)
    return sum_text([(c, power) for c, power in terms if c]) or "0"
