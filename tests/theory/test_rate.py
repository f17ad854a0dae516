import numpy as np
import pytest

import minimand as mm
from minimand.algorithms._growing import growing_t
from minimand.studies.unrolling.sparse_recovery import algorithm_for, predicted
from minimand.theory.rate import plot_rate, rate

pytest.importorskip("PEPit")


@pytest.mark.parametrize("steps", [1, 4])
def test_gradient_descent_has_its_closed_forms(steps: int) -> None:
    """Drori & Teboulle (2014): L |x_0 - x*|^2 / (4 N + 2); contraction (1 - mu/L)^(2 N)."""
    assert rate("gradient_descent", steps=steps).bound == pytest.approx(1 / (4 * steps + 2), rel=1e-4)
    worst_case = rate("gradient_descent(step_size=0.5)", mu=0.2, L=2.0, steps=steps, measure="distance")
    assert worst_case.bound == pytest.approx((1 - 0.2 / 2) ** (2 * steps), rel=1e-4)


def test_faster_methods_meet_their_bounds() -> None:
    steps = 5
    descent, fista, optimized = (
        rate(name, steps=steps).bound for name in ("gradient_descent", "fista", "optimized_gradient")
    )
    assert descent is not None
    assert fista is not None
    assert optimized is not None
    assert optimized < fista < descent
    assert fista <= 2 / (steps + 1) ** 2
    assert optimized <= 1 / (4 * growing_t(steps - 1) ** 2)


def test_triple_momentum_contracts_at_its_rate() -> None:
    """|x_N - x*| shrinks like r^N, r = 1 - sqrt(mu/L): between two depths the factor is r^2 a step."""
    r = 1 - 0.1**0.5
    tmm = mm.algorithms.TripleMomentum(rate=r)
    near, far = (rate(tmm, mu=0.1, steps=n, measure="distance").bound for n in (6, 9))
    assert near is not None
    assert far is not None
    assert far / near == pytest.approx(r**6, rel=0.05)


def test_a_proximal_step_is_no_worse_than_a_gradient_step() -> None:
    """Composite f + g: L |x_0 - x*|^2 / (4 N) is tight for the proximal gradient method (Taylor et al. 2018)."""
    assert rate("proximal_gradient", steps=4).bound == pytest.approx(1 / 16, rel=1e-3)


def test_no_bound_is_a_result() -> None:
    worst_case = rate("linearized_admm", steps=2)
    assert worst_case.bound is None
    assert "no bound was found" in str(worst_case)


def test_a_certificate_shows_it_when_asked() -> None:
    certificate = mm.certify("gradient_descent", depth=4, rate=(0, 1))
    assert certificate.rate == rate("gradient_descent", steps=4)
    assert "worst case" in str(certificate)
    assert "f(x_N) - f* <= 0.0556 |x_0 - x*|^2 for 1-smooth convex f, N = 4" in " ".join(str(certificate).split())
    assert certificate.to_dict()["rate"]["steps"] == 4
    assert mm.certify("gradient_descent", depth=4).rate is None


def test_a_plot_has_a_point_for_each_momentum() -> None:
    figure = plot_rate("heavy_ball", [0.0, 0.3], steps=2)
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(line.get_xdata()), [0.0, 0.3])
    assert np.asarray(line.get_ydata())[0] == pytest.approx(1 / 10, rel=1e-4)
    with pytest.raises(ValueError, match="Extragradient has no momentum to vary"):
        plot_rate("extragradient", [0.1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mu": 1.0}, "expected 0 <= mu < L"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"measure": "valu"}, "Did you mean 'value'"),
    ],
)
def test_bad_input(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rate("gradient_descent", **arguments)


def test_rates_of_quadratics_are_those_of_their_spectrum() -> None:
    """|x_N - x*| of gradient descent falls by max |1 - s lambda|, (kappa - 1) / (kappa + 1) at the best step size."""
    mu, L = 0.2, 1.0
    descent = rate("gradient_descent(step_size=1.6666666666666667)", mu, L, 3, "distance", family="quadratic")
    assert descent.bound == pytest.approx(((L - mu) / (L + mu)) ** 6, rel=1e-3)
    assert "convex quadratic f" in str(descent)
    # Of all quadratics those that are not are a part.
    heavy = [rate("heavy_ball(momentum=0.2)", mu, L, 3, "distance", family=f).bound for f in ("quadratic", "convex")]
    assert heavy[0] is not None
    assert heavy[1] is not None
    assert heavy[0] <= heavy[1] * (1 + 1e-6)


def test_a_rate_may_begin_with_the_value_and_count_the_best_iterate() -> None:
    """Gradient descent: f(x_N) - f* <= (1 - mu/L)^(2N) (f(x_0) - f*), Taylor et al. 2018; one step of it."""
    worst_case = rate("gradient_descent", mu=0.2, steps=2, start="value")
    assert worst_case.bound == pytest.approx((1 - 0.2) ** 4, rel=1e-3)
    assert "(f(x_0) - f*)" in str(worst_case)
    last, best = (rate("heavy_ball", steps=2, measure="gradient", iterate=i).bound for i in ("last", "best"))
    assert last is not None
    assert best is not None
    assert best <= last * (1 + 1e-6)
    assert "min_k |grad f(x_k)|^2" in str(rate("gradient_descent", steps=1, measure="gradient", iterate="best"))


def test_rates_of_monotone_operators() -> None:
    """The proximal point contracts; gradient steps on a strongly monotone operator: 1 - 2 s mu + s^2 L^2."""
    worst_case = rate("gradient_descent(step_size=0.1)", mu=0.5, L=1.0, steps=1, measure="distance", family="monotone")
    assert worst_case.bound == pytest.approx(1 - 2 * 0.1 * 0.5 + 0.1**2, rel=1e-3)
    assert "monotone F" in str(worst_case)
    extragradient = rate("extragradient(step_size=0.5)", steps=3, measure="distance", family="monotone").bound
    assert extragradient == pytest.approx(1, rel=1e-3)
    assert (rate("gradient_descent(step_size=0.5)", steps=3, measure="distance", family="monotone").bound or 0) > 1.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"family": "quadratics"}, "Did you mean 'quadratic'"),
        ({"iterate": "first"}, "iterate 'first'"),
        ({"start": "gradient"}, "start 'gradient'"),
        ({"family": "monotone"}, "measure is 'value', but monotone operators have no value"),
        ({"family": "monotone", "measure": "distance", "start": "value"}, "start is 'value'"),
    ],
)
def test_words_of_a_rate_that_do_not_fit(words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rate("gradient_descent", **words)


@pytest.mark.parametrize("method", ["ISTA", "FISTA", "heavy ball", "Nesterov", "Chebyshev"])
def test_rates_that_the_study_of_sparse_recovery_draws_are_those_of_quadratics(method: str) -> None:
    """For the methods that ask one gradient; of two proxes, one of them a quadratic's, there is no bound."""
    algorithm, _ = algorithm_for(method, 1.0, 0.2)
    certified = rate(algorithm, 0.2, steps=3, measure="distance", family="quadratic")
    assert certified.bound is not None
    assert predicted(algorithm, 0.2, 3)[-1] == pytest.approx(10 * np.log10(certified.bound), abs=1e-3)
