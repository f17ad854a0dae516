import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import minimand as mm

spectrum = mm.trainability.spectrum


def jacobian(fn, x: Tensor) -> Tensor:
    """The Jacobian by torch.func, as a matrix."""
    return torch.func.jacrev(fn)(x).reshape(-1, x.numel())


def spread(ensemble: str, phi, depth: int, point, width: int = 256, draws: int = 3) -> np.ndarray:
    """Squared singular values of W D ... W D with h drawn from its distribution, which is what theory speaks of."""
    values, generator = [], torch.Generator().manual_seed(3)
    for _ in range(draws):
        product = torch.eye(width, dtype=torch.float64)
        for _ in range(depth):
            w = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
            w = torch.linalg.qr(w)[0] if ensemble == "orthogonal" else w
            h = point.q**0.5 * torch.randn(width, generator=generator, dtype=torch.float64)
            slope = torch.func.vmap(torch.func.grad(phi))(h)
            product = point.sigma_w * w @ (slope[:, None] * product)
        values.append(torch.linalg.svdvals(product).square().numpy())
    return np.concatenate(values)


@pytest.mark.parametrize(
    ("phi", "ensemble", "depth", "q", "var"),
    [
        ("linear", "gaussian", 16, 1.0, 16),
        ("linear", "orthogonal", 64, 1.0, 0),
        ("relu", "gaussian", 16, 1.0, 32),
        ("relu", "orthogonal", 16, 1.0, 16),
        ("tanh", "gaussian", 4, 1.0, 6.334),
        ("tanh", "orthogonal", 4, 1.0, 2.334),
        ("tanh", "orthogonal", 16, 1 / 16, 0.307),
        ("tanh", "orthogonal", 64, 1 / 64, 0.108),
        ("hardtanh", "orthogonal", 64, 0.25, 3.051),
    ],
)
def test_variances_of_the_table(phi: str, ensemble, depth: int, q: float, var: float) -> None:
    """Facts 1.5, the values of theory."""
    moments = spectrum.theory(phi, ensemble, depth, q)
    assert (moments.mean, moments.var) == (pytest.approx(1), pytest.approx(var, abs=6e-4))


@pytest.mark.parametrize("depth", [1, 2, 5, 16])
def test_the_largest_values_are_the_closed_forms(depth: int) -> None:
    """Fuss-Catalan for linear Gaussian; Bernoulli slopes for ReLU and hard tanh (facts 1.5)."""
    linear = spectrum.theory("linear", "gaussian", depth, 1.0)
    assert linear.largest == pytest.approx((depth + 1) ** (depth + 1) / depth**depth, rel=1e-9)
    assert spectrum.theory("linear", "orthogonal", depth, 1.0).largest == pytest.approx(1, rel=1e-9)
    for phi, q, p in (("relu", 1.0, 0.5), ("hardtanh", 0.25, math.erf(2**0.5)), ("hardtanh", 4.0, math.erf(8**-0.5))):
        if depth * (1 - p) > 1:
            expected = depth**depth / (depth - 1) ** (depth - 1) * (1 - p) / p
            assert spectrum.theory(phi, "orthogonal", depth, q).largest == pytest.approx(expected, rel=1e-6)


def test_the_scale_of_weights_scales_the_spectrum() -> None:
    critical = spectrum.theory("tanh", "orthogonal", 3, 0.5)
    sigma = mm.trainability.mean_field.critical_point("tanh", q=0.5).sigma_w
    wider = spectrum.theory("tanh", "orthogonal", 3, 0.5, sigma_w=1.1 * sigma)
    assert (wider.mean, wider.var, wider.largest) == (
        pytest.approx(1.21**3 * critical.mean),
        pytest.approx(1.21**6 * critical.var),
        pytest.approx(1.21**3 * critical.largest),
    )


@pytest.mark.parametrize(
    ("name", "phi", "ensemble"),
    [("linear", lambda h: h, "gaussian"), ("tanh", torch.tanh, "gaussian"), ("tanh", torch.tanh, "orthogonal")],
)
def test_theory_is_what_matrices_do(name: str, phi, ensemble) -> None:
    """Mean, variance, end and distribution at depth 4, against the matrices themselves."""
    point = mm.trainability.mean_field.critical_point(name, q=0.25)
    squares = spread(ensemble, phi, 4, point)
    expected = spectrum.theory(name, ensemble, 4, 0.25)
    assert squares.mean() == pytest.approx(expected.mean, rel=0.1)
    assert squares.var() == pytest.approx(expected.var, rel=0.1)
    assert squares.max() == pytest.approx(expected.largest, rel=0.1)
    edges = np.array([0.05, 0.3, 0.8, 1.5, 3.0])
    at = np.linspace(0.05, 3.0, 400)
    cumulative = np.concatenate([[0], np.cumsum(spectrum.density(name, ensemble, 4, 0.25, at)) * (at[1] - at[0])])
    theory = np.diff(np.interp(edges, np.append(at, 2 * at[-1] - at[-2]), cumulative))
    assert theory == pytest.approx(np.histogram(squares, edges)[0] / len(squares), abs=0.02)


def test_the_density_of_one_gaussian_matrix_is_marchenko_pastur() -> None:
    at = np.array([0.1, 0.5, 1, 2, 3, 3.9])
    assert spectrum.density("linear", "gaussian", 1, 1.0, at) == pytest.approx(
        np.sqrt(at * (4 - at)) / (2 * np.pi * at), rel=3e-3
    )


@pytest.mark.parametrize(
    ("phi", "ensemble", "depth", "q"), [("relu", "orthogonal", 16, 1.0), ("gelu", "gaussian", 3, 3.5)]
)
def test_the_density_has_the_moments_of_the_theory(phi: str, ensemble, depth: int, q: float) -> None:
    expected = spectrum.theory(phi, ensemble, depth, q)
    at = np.geomspace(1e-5, 1.3 * expected.largest, 500)
    weights = spectrum.density(phi, ensemble, depth, q, at) * np.gradient(at)
    assert weights @ at == pytest.approx(1, rel=0.03)
    assert weights @ at**2 - 1 == pytest.approx(expected.var, rel=0.05)


@pytest.mark.parametrize("c", [0.25, 1.0])
def test_residual_networks(c: float) -> None:
    """Mean e^c and variance / mean^2 = 2 c, whatever the depth, against matrices (facts 1.5)."""
    expected, depth, width = spectrum.residual(c), 60, 200
    generator, product = torch.Generator().manual_seed(0), torch.eye(width, dtype=torch.float64)
    for _ in range(depth):
        branch = torch.randn(width, width, generator=generator, dtype=torch.float64) * (c / depth / width) ** 0.5
        product = product + branch @ product
    squares = torch.linalg.svdvals(product).square().numpy()
    assert squares.mean() == pytest.approx(expected.mean, rel=0.1)
    assert squares.var() == pytest.approx(expected.var, rel=0.15)
    assert squares.max() == pytest.approx(expected.largest, rel=0.15)
    assert spectrum.residual(0).var == 0


class _Last(nn.Module):
    """The last output of a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 9)), (1, 12)),
    "in place": (lambda: nn.Sequential(nn.Linear(12, 20), nn.ReLU(inplace=True), nn.Linear(20, 9)), (1, 12)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), (1, 3, 8)),
    "lstm": (_Last, (1, 4, 5)),
    "batch normalization": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval(),
        (1, 2, 6, 6),
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # jacrev's, not ours
@pytest.mark.parametrize("name", NETWORKS)
def test_the_largest_values_are_those_of_the_whole_jacobian(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(shape)
    expected = torch.linalg.svdvals(jacobian(model, x)).detach().double().numpy()
    assert spectrum.singular_values(model, x, 3) == pytest.approx(expected[:3], rel=1e-4)
    assert spectrum.singular_values(model, x, which="all") == pytest.approx(expected, abs=1e-5 * expected[0])
    assert not x.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_degenerate_jacobians() -> None:
    x = torch.ones(2, 3)
    assert list(spectrum.singular_values(lambda x: torch.zeros(4), x, 2)) == [0, 0]
    assert list(spectrum.singular_values(lambda x: x.sum() + 0 * x[0, :1], x)) == [pytest.approx(6**0.5)]
    assert spectrum.condition(nn.Linear(3, 3, bias=False).requires_grad_(False).to(torch.float64), x[:1].double()) > 1
    assert spectrum.condition(lambda x: x * torch.tensor([1.0, 0.0, 2.0]), x[:1]) == math.inf
    assert spectrum.condition(lambda x: x * torch.tensor([1.0, 0.5, 2.0]), x[:1]) == pytest.approx(4)
    with pytest.raises(TypeError, match="floating input: for tokens"):
        spectrum.singular_values(nn.Embedding(4, 2), torch.tensor([1, 2]))
    with pytest.raises(TypeError, match="returned a tuple"):
        spectrum.singular_values(nn.LSTM(3, 3), x)


@pytest.mark.parametrize(
    ("shape", "sizes", "stride", "groups"),
    [((3, 2, 3), (8,), 1, 1), ((4, 3, 3, 3), (6, 4), 2, 1), ((4, 2, 3, 3), (4, 6), 1, 2), ((6, 1, 2, 2), (4, 4), 2, 3)],
)
def test_singular_values_of_circular_convolutions(shape, sizes, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    convolve = (torch.conv1d, torch.conv2d)[len(sizes) - 1]

    def apply(x: Tensor) -> Tensor:
        for dim, kernel in enumerate(shape[2:], 2):  # wrap around by hand
            x = torch.cat([x, x.narrow(dim, 0, kernel - 1)], dim)
        return convolve(x, weight, None, stride, 0, 1, groups)

    x = torch.zeros(1, shape[1] * groups, *sizes, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian(apply, x))
    values = spectrum.convolution_singular_values(weight, sizes, stride, groups)
    assert values.numpy() == pytest.approx(expected.numpy(), abs=1e-12)


def test_a_delta_orthogonal_kernel_is_an_isometry() -> None:
    weight = torch.zeros(24, 16, 3, 3)
    nn.init.orthogonal_(weight[:, :, 1, 1])
    values = spectrum.convolution_singular_values(weight, 8)
    assert len(values) == 16 * 64
    assert values.numpy() == pytest.approx(1, abs=1e-5)
    usual = nn.init.orthogonal_(torch.empty(16, 16, 3, 3), generator=torch.Generator().manual_seed(0))
    values = spectrum.convolution_singular_values(usual, 8)
    assert values[0] > 1.5
    assert values[-1] < 0.1


def test_the_norm_of_a_convolution_with_zero_padding() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, stride=2)
    x = torch.zeros(1, 3, 7, 6)
    expected = torch.linalg.svdvals(jacobian(convolution, x))[0].item()
    assert spectrum.convolution_norm(convolution, (7, 6)) == pytest.approx(expected, rel=1e-5)
    circular = nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular")
    assert spectrum.convolution_norm(circular, 8) == pytest.approx(
        spectrum.convolution_singular_values(circular.weight, 8)[0].item(), rel=1e-5
    )
    with pytest.raises(TypeError, match="convolution is a Linear"):
        spectrum.convolution_norm(nn.Linear(2, 2), 4)
    with pytest.raises(ValueError, match="do not fit"):
        spectrum.convolution_singular_values(convolution.weight, 7, stride=2)


def test_the_tangent_kernel_is_that_of_the_jacobian() -> None:
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Linear(4, 30), nn.BatchNorm1d(30), nn.Tanh(), nn.Linear(30, 1)).double(),
        torch.randn(6, 4),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kernel = spectrum.ntk(model, x.double())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rows = torch.autograd.functional.jacobian(
        lambda *p: torch.func.functional_call(
            model, dict(zip(dict(model.named_parameters()), p, strict=True)), x.double()
        ),
        tuple(model.parameters()),
    )
    gradients = torch.cat([row.reshape(6, -1) for row in rows], 1)
    assert kernel.kernel == pytest.approx((gradients @ gradients.T).numpy(), rel=1e-9)
    values = torch.linalg.eigvalsh(gradients @ gradients.T)
    assert (kernel.largest, kernel.condition) == (
        pytest.approx(values[-1].item()),
        pytest.approx((values[-1] / values[0]).item(), rel=1e-6),
    )
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match="1 samples"):
        spectrum.ntk(model, x[:1].double())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_extremes_of_the_hessian() -> None:
    pytest.importorskip("curvlinops")
    torch.manual_seed(0)
    model, x, target = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(9, 3), torch.randn(9, 2)

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().mean() + prediction[:, 0].mean() * 0.3

    shapes = [p.shape for p in model.parameters()]

    def of_vector(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        named = zip(
            dict(model.named_parameters()), (p.view(s) for p, s in zip(parts, shapes, strict=True)), strict=True
        )
        return loss(torch.func.functional_call(model, dict(named), x), target)

    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    hessian = torch.autograd.functional.hessian(of_vector, flat)
    assert isinstance(hessian, Tensor)
    values = torch.linalg.eigvalsh(hessian)
    extremes = spectrum.hessian_extremes(model, loss, x, target)
    assert extremes == pytest.approx((values[0].item(), values[-1].item()), rel=1e-3)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("factor", "stable"), [(0.98, True), (1.02, False)])
def test_the_largest_step_is_where_gradient_descent_ceases_to_converge(factor: float, stable: bool) -> None:
    torch.manual_seed(0)
    model, x, target = nn.Linear(3, 1).double(), torch.randn(4, 3).double(), torch.randn(4, 1).double()
    size = factor * spectrum.ntk(model, x).largest_step
    optimizer = torch.optim.SGD(model.parameters(), lr=size)
    losses = []
    for _ in range(600):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean() / 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert (losses[-1] < losses[300] + 1e-9) == stable


def test_an_orthogonal_head_only_stretches_the_density() -> None:
    at = np.linspace(0.2, 3.0, 7)
    whole = spectrum.density("tanh", "orthogonal", 3, 0.25, 1.3**2 * at, sigma_w=1.3, head=True)
    assert 1.3**2 * whole == pytest.approx(spectrum.density("tanh", "orthogonal", 3, 0.25, at, sigma_w=1.3), rel=1e-6)
