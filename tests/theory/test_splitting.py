import numpy as np
import pytest
from scipy.linalg import expm

import minimand as mm
from minimand.algorithms import ALGORITHMS
from minimand.report.explain import certify_model

ALTERNATED = "adams_bashforth2"  # of order 2 where its blocks are no parts


def test_layers_that_are_split_have_a_step_for_each_part() -> None:
    certificate = mm.certify("heavy_ball", depth=6, splitting="lie_trotter")
    assert certificate.gains == mm.certify("heavy_ball", depth=12).gains
    assert "6 layers of 2 steps (lie_trotter splitting)" in str(certificate)
    assert mm.certify("heavy_ball", depth=4, splitting="strang").depth == 12
    assert mm.certify("heavy_ball", depth=4, splitting="euler").depth == 4


def test_turns_have_no_order_above_one_as_an_integration_shows() -> None:
    """x' = (A + M) x by Adams-Bashforth's method whose oracles take turns, on matrices that do not commute."""
    assert mm.certify(ALTERNATED, depth=8).order == 2
    assert mm.certify(ALTERNATED, depth=8, splitting="euler").order == 2
    for splitting in ("lie_trotter", "strang"):
        assert mm.certify(ALTERNATED, depth=8, splitting=splitting).order == 1

    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, 3, 3)) / 3
    x, exact = np.ones(3), expm(parts.sum(0)) @ np.ones(3)
    chosen = mm.algorithms.as_algorithm(ALTERNATED)

    def error(layers: int) -> float:
        h = 1 / layers
        state = chosen.start(x)
        for k in range(2 * layers):
            state = chosen.step(state, lambda z, k=k: -h * parts[k % 2] @ z, k)
        return float(np.abs(chosen.read(state) - exact).max())

    assert np.log2(error(64) / error(128)) < 1.2


def test_a_rewired_model_is_certified_as_split() -> None:
    from torch import nn

    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True)
    encoder = mm.rewire(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), "heavy_ball", at="branches")
    certificate = certify_model(encoder)
    assert (certificate.depth, certificate.splitting, certificate.binding) == (6, "lie_trotter", "residual")
    assert "residual binding: T is a residual branch" in str(mm.explain(encoder))


def test_an_unknown_splitting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown splitting 'lie_troter'. Did you mean 'lie_trotter'"):
        mm.certify("heavy_ball", splitting="lie_troter")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("algorithm", ["proximal_gradient", "linearized_admm"])
def test_only_algorithms_that_ask_one_gradient_are_certified_as_split(algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"the algorithm asks {', '.join(ALGORITHMS[algorithm].oracles)}"):
        mm.certify(algorithm, splitting="lie_trotter")


def test_a_map_is_no_oracle_of_a_split_layer() -> None:
    assert mm.certify("yurii_former", depth=2, splitting="lie_trotter").depth == 4


@pytest.mark.parametrize(
    ("model", "splitting", "depth"),
    [
        ("gpt_nano(width=8, heads=2, depth=3, num_tokens=9, context=8)", "lie_trotter", 6),
        ("gpt_nano(width=8, heads=2, depth=3, num_tokens=9, context=8, splitting='strang')", "strang", 9),
        ("vit_tiny(width=6, heads=2, depth=3, patch=8, image_size=16)", "whole", 3),
        ("mlp(width=6, depth=3)", None, 3),
    ],
)
def test_a_model_is_certified_as_its_layers_are_cut(model: str, splitting: str | None, depth: int) -> None:
    certificate = certify_model(mm.create_model(model, "heavy_ball"))
    assert (certificate.splitting, certificate.depth) == (splitting, depth)
