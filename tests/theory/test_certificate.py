import json
from typing import Any, cast

import pytest
from torch import nn

import minimand as mm
from helpers import ALGORITHMS
from sweeps import thin

A = mm.algorithms


def _named(certificate, name: str):
    return next(s for s in certificate.statements if s.name == name)


def test_gradient_descent_is_universal_at_bounded_width() -> None:
    certificate = mm.certify("gradient_descent", width=3, d_in=2, d_out=1, block=_dense())
    assert [s.name for s in certificate.universal] == ["U1", "U2"]
    assert certificate.to_dict()["universal"]


def _dense() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 3))


@pytest.mark.parametrize(("width", "names"), [(1, []), (2, ["U2"]), (3, ["U1", "U2"])])
def test_width_decides(width: int, names: list[str]) -> None:
    """U1 needs d_in + d_out = 3, U2 max(d_in, d_out, 2) = 2."""
    certificate = mm.certify("heavy_ball", width=width, d_in=2, d_out=1)
    assert [s.name for s in certificate.universal] == names
    for s in certificate.statements:
        assert s.holds or (f"width {width} is below" in s.fails and "a width of" in s.repair)


def test_what_is_not_given_becomes_a_proviso() -> None:
    certificate = mm.certify("heavy_ball")
    provisos = ("width >= d_in + d_out", "T can be any two-layer map of the whole state")
    assert _named(certificate, "U1").provided == provisos


def test_where_a_gain_is_zero_pulses_make_up_for_it() -> None:
    certificate = mm.certify("leapfrog", depth=6)
    assert _named(certificate, "U1").claim == (
        "equals any shallow net with a neuron for 2 layers, in the sup norm (pulses 1/2, 1/2)"
    )
    statement = _named(certificate, "U1 with one neuron a layer")
    assert statement.verdict == "not covered"
    assert statement.fails == "the gain of layer 0, 2, 4 is 0; holds with 2 layers a neuron (pulses 1/2, 1/2)"

    class Repaired(A.Leapfrog):
        def read(self, state):
            return (state[0] + state[1]) / 2

    repaired = mm.certify(Repaired(), depth=6)
    assert repaired.gains == (1.0,) * 6  # facts 3.6: then every gain is 1
    assert _named(repaired, "U1").holds


def test_momentum_one_is_universal_through_its_second_order_limit() -> None:
    for name in ("heavy_ball(momentum=1)", "fista"):
        certificate = mm.certify(name, depth=20)
        assert [s.name for s in certificate.universal] == ["U1", "U3"]
        assert "not zero-stable" in _named(certificate, "U2").fails


def test_hb_net_read_as_residual_is_not_consistent() -> None:
    """x + T with T = 0 in the place of x - gradient: states cycle with period 6 (facts 3.5)."""

    class Cycling(mm.Algorithm):
        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            x, previous = state
            return x - previous - gradient(x), x

        def read(self, state):
            return state[0]

    certificate = mm.certify(Cycling(), depth=7)
    assert not certificate.consistent
    assert certificate.zero_stable  # poles on the circle, simple
    assert not certificate.universal
    assert certificate.order is None


def test_learnable_coefficients_are_certified_at_both_ends() -> None:
    certificate = mm.certify(A.HeavyBall(momentum=mm.Learnable(0.5, low=0, high=1)))
    still, frictionless = "momentum = 0", "momentum = 1"
    assert {name: end.zero_stable for name, end in certificate.ends.items()} == {still: True, frictionless: False}
    assert {name: end.reversible for name, end in certificate.ends.items()} == {still: False, frictionless: True}
    assert _named(certificate, "U4").holds
    assert "momentum = 0" in _named(certificate, "U4").claim
    assert "momentum = 1" in str(certificate)


def test_a_bound_at_which_a_step_divides_by_zero_is_said() -> None:
    certificate = mm.certify(A.ChambollePock(dual_step_size=mm.Learnable(0.5, low=0, high=1)), depth=4)
    assert list(certificate.ends) == ["dual_step_size = 1"]
    row = next(row for row in certificate.rows() if row[0] == "undefined")
    assert row[2].startswith("at dual_step_size = 0, where a step divides by 0")
    with pytest.raises(ValueError, match="ChambollePock: the step divides by 0"):
        mm.certify(A.ChambollePock(dual_step_size=0), depth=4)


def test_u4_needs_residual_networks_within_the_bounds() -> None:
    certificate = mm.certify(A.HeavyBall(momentum=mm.Learnable(0.5, low=0.2, high=0.9)))
    assert not _named(certificate, "U4").holds
    assert _named(certificate, "U4").repair == "let the momentum reach 0"


def test_implicit_and_explicit_blocks_inherit_u1() -> None:
    class ProximalGradient(mm.Algorithm):
        def start(self, x):
            return x

        def step(self, state, gradient, prox, k):
            return prox(state - gradient(state), 1.0)

        def read(self, state):
            return state

    certificate = mm.certify(ProximalGradient())
    assert _named(certificate, "U5").holds
    assert certificate.order is None


@pytest.mark.parametrize("name", thin(ALGORITHMS, A.ALGORITHMS))
@pytest.mark.parametrize("binding", ["residual", "operator"])
def test_every_certificate_prints_and_is_plain_data(name: str, binding) -> None:
    certificate = mm.certify(ALGORITHMS[name], depth=5, binding=binding)
    text = str(certificate)
    assert str(ALGORITHMS[name]).partition("(")[0] in text
    for word in ("consistent", "zero-stable", "order", "gains", "reversible", "memory"):
        assert word in text
    assert any(line.startswith(("universal", "not covered")) for line in text.splitlines())
    assert all(len(line) <= 110 for line in text.splitlines())
    assert json.loads(json.dumps(certificate.to_dict()))["binding"] == binding


def test_memory_that_grows_is_said() -> None:
    certificate = mm.certify(ALGORITHMS["growing"], depth=6)
    assert certificate.memory == (1, 7)
    assert "grows from 1 to 7 tensors" in str(certificate)


def test_several_oracles_have_gains_each() -> None:
    certificate = mm.certify(ALGORITHMS["two oracles"], depth=4)
    assert isinstance(certificate.gains, dict)
    assert {name: len(g) for name, g in certificate.gains.items()} == {"gradient_f": 4, "gradient_g": 4}
    assert certificate.order is None


def test_the_picture_shows_poles_gains_and_wiring() -> None:
    figure = mm.certify("heavy_ball(momentum=0.9)", depth=4).plot()
    poles, region, gains, wiring = cast(Any, figure.axes)
    assert "up to 3.8" in region.get_title()  # 2 (1 + m)
    assert sorted(line.get_xdata()[0] for line in poles.lines if line.get_marker() == "x") == [0.9, 1.0]
    assert [bar.get_height() for bar in gains.patches] == pytest.approx([3.439, 2.71, 1.9, 1.0])
    assert [t.get_text() for t in wiring.texts if t.get_text()] == ["x", "T₀", "T₁", "T₂", "T₃", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "heavyball"}, "Did you mean 'heavy_ball'"),
        ({"algorithm": "heavy_ball", "depth": 0}, "depth is 0; expected at least 1"),
        ({"algorithm": "heavy_ball", "binding": "operators"}, "Did you mean 'operator'"),
        ({"algorithm": "heavy_ball", "binding": None}, "binding is None"),
        ({"algorithm": "heavy_ball", "width": 0}, "width is 0; expected at least 1"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.certify(**arguments)


class _Free(mm.Algorithm):
    """Two states and a step that a test gives."""

    def start(self, x):
        return x, x

    def read(self, state):
        return state[0]


def test_methods_of_second_order_in_time_have_to_be_stable() -> None:
    def of(a: float, b: float, c: float) -> mm.Algorithm:
        class Three(mm.Algorithm):
            def start(self, x):
                return x, x, x

            def read(self, state):
                return state[0]

            def step(self, state, gradient, k):
                x, y, z = state
                return a * x + b * y + c * z - gradient(x), x, y

        return Three()

    def names(algorithm: mm.Algorithm) -> list[str]:
        return [s.name for s in mm.certify(algorithm).universal]

    assert "U3" in names(of(2.5, -2, 0.5))  # (z - 1)^2 (z - 1/2)
    assert "U3" not in names(of(4, -5, 2))  # (z - 1)^2 (z - 2)
    assert "U3" not in names(of(3, -3, 1))  # (z - 1)^3


def test_growing_friction_of_the_wrong_sign_is_none() -> None:
    class Pushed(_Free):
        sign = 1

        def step(self, state, gradient, k):
            x, previous = state
            return x + (1 + self.sign * 3 / (k + 4)) * (x - previous) - gradient(x), x

    class Braked(Pushed):
        sign = -1

    assert "U3" not in [s.name for s in mm.certify(Pushed()).universal]
    (statement,) = (s for s in mm.certify(Braked()).universal if s.name == "U3")
    assert "(3/t)" in statement.claim


def test_answers_of_one_block_that_cancel_do_not_reach_the_output() -> None:
    class Cancelling(mm.Algorithm):
        def start(self, x):
            return x

        def step(self, state, gradient, k):
            answer = gradient(state)
            return state - answer + gradient(state - answer)

        def read(self, state):
            return state

    assert not mm.certify(Cancelling()).universal


def test_a_step_size_that_vanishes_is_not_dense() -> None:
    certificate = mm.certify(mm.algorithms.GradientDescent(step_size=lambda k: 0.5**k))
    assert [s.name for s in certificate.universal] == ["U1"]
    assert "not bounded from below" in str(certificate)


def test_a_schedule_may_end_with_the_network() -> None:
    values = [0.1, 0.2, 0.3, 0.4]
    certificate = mm.certify(mm.algorithms.HeavyBall(momentum=lambda k: values[k]), depth=4)
    assert certificate.poles is not None
    assert [p.value.real for p in certificate.poles] == pytest.approx([1, 0.4])
    with pytest.raises(ValueError, match=r"HeavyBall.momentum\(4\) raised IndexError"):
        mm.certify(mm.algorithms.HeavyBall(momentum=lambda k: values[k]), depth=5)


def test_learnable_coefficients_find_gradient_descent_inside_their_bounds() -> None:
    class Weighted(_Free):
        """LM-ResNet: x_next = w x + (1 - w) x_previous - grad(x)."""

        weight: mm.Coefficient = mm.Learnable(1.2, low=0.5, high=1.5)

        def step(self, state, gradient, k):
            x, previous = state
            return self.weight(k) * x + (1 - self.weight(k)) * previous - gradient(x), x

    assert "U4" in [s.name for s in mm.certify(Weighted()).universal]
