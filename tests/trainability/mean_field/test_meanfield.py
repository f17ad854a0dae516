import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm

meanfield = mm.trainability.mean_field

# Facts 1.2: E phi^2, E phi'^2, the gain, chi with that gain, the gain for variance 1, mu_2 / mu_1^2; at q = 1.
GAINS = {
    "tanh": (0.394294490, 0.464402902, 1.59253742, 1.17780723, 1.59253742, 1.58347994),
    "erf": (0.464559054, 0.569410035, 1.46716695, 1.22570000, 1.46716695, 1.66666667),
    "relu": (0.5, 0.5, 1.41421356, 1, 1.71285855, 2),
    "leaky_relu": (0.50005, 0.50005, 1.41414286, 1, 1.70483163, 1.99960008),
    "elu": (0.644945417, 0.668102001, 1.24519830, 1.03590472, 1.27084342, 1.33168354),
    "selu": (1, 1.071574992, 1, 1.07157499, 1, 1.31619654),
    "gelu": (0.425221483, 0.455850866, 1.53353044, 1.07203160, 1.70092624, 2.08833404),
    "silu": (0.355775520, 0.379482352, 1.67653247, 1.06663424, 1.78718722, 1.99004816),
    "mish": (0.452342192, 0.479083758, 1.48684758, 1.05911800, 1.59202538, 1.83746118),
    "softplus": (0.921245909, 0.293379036, 1.04186684, 0.31845898, 1.91912598, 1.52889960),
    "sigmoid": (0.293379036, 0.044836241, 1.84622855, 0.15282701, 4.80131337, 1.13697673),
}
# Facts 1.3: sigma_w^2, sigma_b^2 and chi_par at q = 1; sigma_w^2 as q goes to 0; the kinds.
LINES = {
    "tanh": (2.15330265, 0.15096463, 0.3915, 1, "line", "line"),
    "erf": (1.75620368, 0.18413968, 1 / 3, math.pi / 4, "line", "line"),
    "hardtanh": (1.46479477, 0.24408013, 0.2911, 1, "line", "line"),
    "arctan": (2.0, 0.10059817, 0.5044, 1, "line", "line"),
    "sin": (1.76159416, 0.23840584, 0.2384, 1, "line", "line"),
    "softsign": (4.39229636, 0.19614818, 0.3832, 1, "line", "line"),
    "elu": (1.49677744, 0.03466025, 0.8601, 1, "line", "line"),
    "selu": (0.93320580, 0.06679420, 0.7304, 0.476771, "line", "line"),
    "gelu": (2.19369990, 0.06719167, 1.0672, 4, "unstable", "unstable"),
    "silu": (2.63516866, 0.06247150, 1.0993, 4, "unstable", "unstable"),
    "mish": (2.08731768, 0.05581814, 1.0163, 2.777778, "unstable", "unstable"),
}
HALF_STABLE = {
    "gelu": ((3 + 17**0.5) / 2, 1.983058257, 0.172922391),
    "silu": (14.320173618, 1.988004678, 0.555143171),
    "mish": (1.670169132, 2.013524070, 0.094521787),
}
# Facts 1.3, tanh with sigma_b^2 = 0.05: sigma_w^2 -> q*, chi_1, c*, xi_c.
SCALES = {
    1.3: (0.315316, 0.880164, 1, 7.8341),
    1.5: (0.418037, 0.938636, 1, 15.791),
    1.7: (0.533076, 0.986741, 1, 74.918),
    2.0: (0.721762, 1.047666, 0.744082, 25.213),
    3.0: (1.428008, 1.208934, 0.299318, 9.0515),
}


def close(value: float, digits: float = 1e-6):
    return pytest.approx(value, abs=digits, rel=digits)


@pytest.mark.parametrize("name", GAINS)
def test_moments_and_gains_at_one(name: str) -> None:
    second, mu1, gain, chi, variance_gain, ratio = GAINS[name]
    m = meanfield.moments(name, 1.0)
    assert (m.second, m.mu1, m.mu2 / m.mu1**2) == (close(second), close(mu1), close(ratio))
    assert meanfield.gain(name) == close(gain)
    assert meanfield.gain(name, "variance") == close(variance_gain)
    assert meanfield.chi(name, 1.0, gain) == close(chi)


@pytest.mark.parametrize("name", LINES)
def test_the_critical_line(name: str) -> None:
    weights, biases, chi_par, at_zero, kind, kind_at_zero = LINES[name]
    point = meanfield.critical_point(name, q=1.0)
    assert (point.sigma_w**2, point.sigma_b**2) == (close(weights), close(biases))
    assert (point.chi_par, point.kind) == (pytest.approx(chi_par, abs=6e-5), kind)
    limit = meanfield.critical_point(name, sigma_b=0)
    assert (limit.sigma_w**2, limit.q, limit.kind) == (close(at_zero), 0, kind_at_zero)


@pytest.mark.parametrize("name", HALF_STABLE)
def test_half_stable_points_are_what_auto_gives_for_gelu_and_its_kin(name: str) -> None:
    q, weights, biases = HALF_STABLE[name]
    point = meanfield.critical_point(name)
    assert point.kind == "half_stable"
    assert (point.q, point.sigma_w**2, point.sigma_b**2) == (close(q), close(weights), close(biases))
    assert meanfield.critical_point(name, depth=40) == point
    assert meanfield.critical_point(name, policy="half_stable") == point
    assert meanfield.critical_point(name, policy="line") == meanfield.critical_point(name, q=1.0)
    assert meanfield.gain(name, "critical") == point.sigma_w


@pytest.mark.parametrize(("phi", "weights"), [("linear", 1), ("relu", 2), (nn.LeakyReLU(0.3), 2 / 1.09)])
def test_homogeneous_activations_hold_any_length(phi, weights: float) -> None:
    choices: tuple[dict[str, Any], ...] = ({}, {"sigma_b": 0}, {"q": 7.3}, {"depth": 50})
    for choice in choices:
        point = meanfield.critical_point(phi, **choice)
        assert (point.sigma_w**2, point.sigma_b, point.kind) == (close(weights, 1e-12), 0, "homogeneous")


def test_the_point_with_a_given_bias_or_depth() -> None:
    point = meanfield.critical_point("tanh", sigma_b=0.05**0.5)
    assert (point.sigma_w**2, point.q) == (close(1.76095464), close(0.57004788))
    assert meanfield.critical_point("tanh", sigma_b=0.05).sigma_w == close(1.12253900)
    assert meanfield.critical_point("tanh", depth=16) == meanfield.critical_point("tanh", q=1 / 16)
    sigmoid = meanfield.critical_point("sigmoid", sigma_b=0)
    assert (sigmoid.q, sigmoid.sigma_w**2) == (close(45.62427780), close(103.0075554))
    assert sigmoid.chi_par == pytest.approx(0.0603, abs=5e-5)
    assert meanfield.critical_point("sigmoid", q=45.63).kind == "line"


@pytest.mark.parametrize(
    ("phi", "choice", "message"),
    [
        ("softplus", {}, "softplus has no critical point .* no stable one. Use a norm"),
        ("softplus", {"q": 30.0}, "softplus has no critical point at q = 30"),
        ("softplus", {"sigma_b": 0.5}, "softplus has no critical point with sigma_b = 0.5"),
        ("sigmoid", {}, "sigmoid has no critical point .* from q = 45.624 on.*sigmoid - 0.5"),
        ("sigmoid", {"q": 45.6}, "sigmoid has no critical point at q = 45.6"),
        ("elu", {"policy": "half_stable"}, "elu has no half-stable point"),
        (torch.sign, {}, "sign has slope 0"),
        ("tanh", {"q": 0.0}, "q is 0.0; expected a variance above 0"),
        ("tanh", {"q": 1.0, "depth": 3}, "give one of them"),
        ("tanh", {"policy": "best"}, "unknown policy 'best'"),
    ],
)
def test_what_has_no_critical_point_says_what_works(phi, choice, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        meanfield.critical_point(phi, **choice)


def test_the_remedy_of_the_message_works() -> None:
    assert meanfield.critical_point(lambda h: torch.sigmoid(h) - 0.5).kind == "line"


@pytest.mark.parametrize("weights", SCALES)
def test_depth_scales_of_tanh(weights: float) -> None:
    q, chi1, c, xi_c = SCALES[weights]
    scales = meanfield.depth_scales("tanh", weights**0.5, 0.05**0.5)
    assert (scales.q, scales.chi1, scales.c) == (close(q), close(chi1), close(c))
    assert scales.xi_c == pytest.approx(xi_c, rel=2e-5)
    assert scales.xi_grad == pytest.approx(-1 / math.log(chi1), rel=1e-4)


def test_depth_scales_where_lengths_vanish_or_explode() -> None:
    scales = meanfield.depth_scales("tanh", 1.5, 0.0)
    assert (scales.q, scales.chi1) == (close(0.793354), close(1.139323))
    scales = meanfield.depth_scales("tanh", 0.8**0.5, 0.05**0.5)
    assert (scales.q, scales.chi1) == (close(0.138080), close(0.646839))
    scales = meanfield.depth_scales("tanh", 0.8, 0.0)
    assert (scales.q, scales.xi_c) == (0, math.inf)  # a linear network keeps angles
    scales = meanfield.depth_scales("relu", 2**0.5, 0.0)
    assert (scales.q, scales.c, scales.xi_q, scales.xi_grad) == (1, 1, math.inf, math.inf)
    scales = meanfield.depth_scales("relu", 2.0, 0.3)
    assert (scales.q, scales.xi_grad) == (math.inf, pytest.approx(-1 / math.log(2)))


def test_angles_of_hard_thresholds_spread() -> None:
    """With sign the correlation map is 2/pi arcsin(c): from any angle to a right one, by 2/pi a layer."""
    scales = meanfield.depth_scales(torch.sign, 1.0, 0.0)
    assert (scales.q, scales.c, scales.chi1) == (1, pytest.approx(0, abs=1e-6), 0)
    assert scales.xi_c == pytest.approx(-1 / math.log(2 / math.pi), rel=1e-6)


def test_lengths_of_tanh_fall_as_half_over_depth() -> None:
    """q_l l -> 1/2 from above at sigma_w = 1, sigma_b = 0 (facts 1.3)."""
    lengths = [layer.q for layer in meanfield.trajectory("tanh", 1.0, 0.0, 3001)]
    scaled = [lengths[l] * l for l in (30, 100, 300, 1000, 3000)]
    distance = [abs(s - 0.5) for s in scaled]
    assert distance == sorted(distance, reverse=True)
    assert scaled[-1] == pytest.approx(0.5, abs=1e-3)


def test_angles_of_relu_close_as_the_inverse_square_of_depth() -> None:
    """(1 - c_l) l^2 -> 9 pi^2 / 2, slowly, from below (facts 1.3), along the closed form of the arc-cosine kernel."""
    layers = meanfield.trajectory("relu", 2**0.5, 0.0, 301, c=0.0)
    c = 0.0
    for layer in layers:
        assert layer.c == pytest.approx(c, abs=1e-12)
        c = ((1 - c**2) ** 0.5 + (math.pi - math.acos(c)) * c) / math.pi
    scaled = [(1 - layers[l].c) * l**2 for l in (30, 100, 300)]
    assert scaled == sorted(scaled)
    assert 40 < scaled[-1] < 9 * math.pi**2 / 2


def test_angles_of_tanh_close_as_the_inverse_of_depth() -> None:
    """(1 - c_l) l -> 2 E phi'^2 / (q E phi''^2) = 3.0939 at q = 1 (facts 1.3)."""
    point = meanfield.critical_point("tanh", q=1.0)
    layers = meanfield.trajectory("tanh", point.sigma_w, point.sigma_b, 301, c=0.9)
    assert (1 - layers[300].c) * 300 == pytest.approx(3.0939, rel=0.1)
    assert layers[300].chi == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("c", [-1.0, -0.6, 0.0, 0.4, 0.999, 1 - 1e-9, 1.0])
def test_the_correlation_map_of_erf_is_the_arcsine(c: float) -> None:
    q = 0.8
    expected = math.asin(2 * q * c / (1 + 2 * q)) / math.asin(2 * q / (1 + 2 * q))
    assert meanfield.correlation_map("erf", c, q, 1.3, 0.0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["tanh", "relu", "hardtanh", "selu", "gelu"])
def test_chi_is_the_slope_of_the_maps(name: str) -> None:
    """chi_perp of the correlation map at 1, chi_par of the length map, by differences."""
    point = meanfield.critical_point(name, q=0.7)
    args = (point.sigma_w, point.sigma_b)
    gap = 1e-6
    assert (1 - meanfield.correlation_map(name, 1 - gap, 0.7, *args)) / gap == pytest.approx(1, abs=3e-3)
    up, down = (meanfield.length_map(name, 0.7 + e, *args) for e in (1e-5, -1e-5))
    assert (up - down) / 2e-5 == pytest.approx(point.chi_par, abs=1e-8)


@pytest.mark.parametrize("phi", [nn.Hardtanh(-0.7, 1.3), F.hardshrink, nn.Softshrink(0.123), lambda h: (h > 0.31) * h])
def test_bends_anywhere_are_found(phi) -> None:
    """Against a plain sum over a hundred times as many points."""
    h = torch.linspace(-9, 9, 4_000_001, dtype=torch.float64)
    weights = torch.exp(-h.square() / 2) * (h[1] - h[0]) / math.sqrt(2 * math.pi)
    m = meanfield.moments(phi, 1.0)
    assert m.second == pytest.approx(float(weights @ phi(h).square()), abs=3e-6)
    assert m.mean == pytest.approx(float(weights @ phi(h)), abs=3e-6)


def test_what_looks_alike_is_not_confused() -> None:
    for slope in (0.1, 0.2):
        assert meanfield.moments(lambda h, s=slope: s * h, 1.0).second == pytest.approx(slope**2)
    prelu = nn.PReLU(init=0.1)
    before = meanfield.moments(prelu, 1.0).second
    with torch.no_grad():
        prelu.weight.fill_(0.5)
    assert (before, meanfield.moments(prelu, 1.0).second) == (pytest.approx(0.505), pytest.approx(0.625))
    assert meanfield.moments(nn.GELU("tanh"), 1.0).second != meanfield.moments(nn.GELU(), 1.0).second
    assert meanfield.moments(nn.GELU, 1.0) == meanfield.moments("gelu", 1.0) == meanfield.moments(F.gelu, 1.0)


def test_a_module_is_left_as_it_was() -> None:
    prelu, calls = nn.PReLU(), []
    prelu.register_forward_hook(lambda *_: calls.append(1))
    meanfield.critical_point(prelu)
    relu = nn.RReLU(inplace=True)
    relu.register_forward_hook(lambda *_: calls.append(1))
    meanfield.critical_point(relu)
    assert (calls, prelu.weight.dtype, prelu.weight.grad, relu.training) == ([], torch.float32, None, True)


def _softmax(h: Tensor) -> Tensor:
    return torch.softmax(h, 0)


@pytest.mark.parametrize(
    ("phi", "error", "message"),
    [
        ("tan", ValueError, "unknown activation 'tan'. Did you mean 'tanh'"),
        (_softmax, ValueError, "_softmax does not act number by number"),
        (F.dropout, ValueError, "dropout .* random"),
        (torch.log, ValueError, "log is not finite"),
        (3.0, TypeError, "activation is 3.0; expected a name"),
        (lambda h: 1.0, TypeError, "it returns a float"),
        (nn.PReLU(3), TypeError, "cannot take a vector"),
    ],
)
def test_what_is_no_activation_is_refused(phi, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        meanfield.moments(phi, 1.0)


def test_results_are_cited() -> None:
    results = (
        meanfield.critical_point("tanh"),
        meanfield.depth_scales("relu", 1.0, 0.1),
        mm.trainability.spectrum.residual(1.0),
        mm.trainability.spectrum.ntk(nn.Linear(2, 1), torch.eye(2)),
    )
    text = mm.bibliography(*results)
    assert all(key in text for key in ("schoenholz2017deep", "pennington2018emergence", "jacot2018neural"))


def test_correlations_never_leave_the_one_that_they_come_to() -> None:
    """With selu at 1.4 lengths diverge and every correlation comes to 1, at no exponential rate."""
    scales = mm.trainability.mean_field.depth_scales("selu", 1.4, 0.1)
    assert scales.c == 1
    assert scales.xi_c == float("inf")
