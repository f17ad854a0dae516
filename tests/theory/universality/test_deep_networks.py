"""U6 and U7 as code: networks of every algorithm that equal shallow ones on images and on tokens."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.theory import ShallowAttention, ShallowConvolution
from minimand.theory.construction import DeepNarrow
from minimand.theory.splitting import STEPS
from sweeps import thin

# Input injection forgets what it has added; all others that ask one gradient have pulses.
ONE_GRADIENT = sorted(
    name for name, cls in mm.algorithms.ALGORITHMS.items() if cls.oracles == ("gradient",) and name != "input_injection"
)
TWO_GRADIENTS = sorted(
    name
    for name, cls in mm.algorithms.ALGORITHMS.items()
    if len(cls.oracles) == 2 and all(oracle.startswith("gradient") for oracle in cls.oracles)
)
LINEAR_ON_ODDS = {
    "relu": nn.ReLU(),
    "gelu": nn.GELU(),
    "tanh gelu": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "leaky": nn.LeakyReLU(0.2),
}

IMAGES: dict[str, tuple[Callable[[nn.Module], ShallowConvolution], dict[str, Any]]] = {
    "gathered": (lambda act: ShallowConvolution(2, 2, 2, (4,), act), {"gather": True}),
    "gathered in the plane": (lambda act: ShallowConvolution(1, 1, 2, (3, 2), act), {"gather": True}),
    "constant width": (lambda act: ShallowConvolution(2, 2, 2, (3,), act), {}),
    "constant width in the plane": (lambda act: ShallowConvolution(1, 2, 2, (2, 3), act), {}),
    "constant width in space": (lambda act: ShallowConvolution(1, 1, 2, (2, 2, 2), act), {}),
    "zeros": (lambda _: ShallowConvolution(1, 2, 1, (3,), padding="zeros"), {}),
    "zeros in the plane": (lambda _: ShallowConvolution(2, 1, 1, (2, 2), padding="zeros"), {}),
}


def _assert_equal(shallow: nn.Module, deep: DeepNarrow, x: Tensor) -> None:
    """Within 1e-9 of the shallow network: by the cheapest realization and layer by layer."""
    deep.eval()  # what an algorithm draws in training is at rest
    with torch.no_grad():
        state = deep.stage.start(deep.stem(x))
        for layer in deep.stage.layers:
            state = layer(state)
        for output in (deep(x), deep.head(deep.stage.read(state))):
            torch.testing.assert_close(output, shallow(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "case", "activation"),
    thin(
        [
            (name, case, act)
            for name in ONE_GRADIENT
            for case in IMAGES
            for act in (["relu"] if "zeros" in case else LINEAR_ON_ODDS)
        ],
        [
            ("heavy_ball", "gathered", "softplus"),
            ("fista", "constant width", "relu"),
            ("leapfrog", "constant width", "leaky"),
            ("extragradient", "zeros", "relu"),
            ("adams_bashforth2", "constant width in the plane", "gelu"),
            ("heavy_ball", "zeros in the plane", "relu"),
        ],
    ),
)
def test_a_shallow_convolution_is_a_deep_one(name: str, case: str, activation: str) -> None:
    torch.manual_seed(0)
    make, options = IMAGES[case]
    shallow = make(LINEAR_ON_ODDS[activation]).double()
    c_in = shallow.weight.shape[-1 - len(shallow.size)]
    u = 2 * torch.rand(3, c_in, *shallow.size, dtype=torch.double) - 1
    deep = mm.theory.construct(shallow, name, **options)
    _assert_equal(shallow, deep, u)
    width = next(p for p in deep.stem.parameters()).shape[0]
    c_out = len(shallow.outgoing)
    if not options:
        assert width == c_in + c_out + (2 if shallow.padding == "circular" else 3)
    certificate = mm.certify(name, depth=6, block=deep.stage.blocks[0], width=width, d_in=c_in, d_out=c_out)
    assert [s.name for s in certificate.universal] == ["U6"]


@pytest.mark.parametrize(
    ("name", "splitting", "activation", "causal"),
    thin(
        [
            *(
                (name, splitting, act, causal)
                for name in ONE_GRADIENT
                for splitting in ("whole", "euler", "lie_trotter", "strang")
                if (name, splitting) != ("leapfrog", "lie_trotter")
                for act in ("relu", "tanh", "gelu")
                for causal in (False, True)
            ),
            *((name, None, "tanh", causal) for name in TWO_GRADIENTS for causal in (False, True)),
        ],
        [
            ("gradient_descent", "whole", "relu", False),
            ("heavy_ball", "lie_trotter", "tanh", True),
            ("leapfrog", "strang", "gelu", False),
            ("merge_and_run", None, "tanh", True),
        ],
    ),
)
def test_a_shallow_network_of_attention_is_a_deep_one(name: str, splitting: Any, activation: str, causal: bool) -> None:
    torch.manual_seed(0)
    act = {"relu": nn.ReLU(), "tanh": nn.Tanh(), "gelu": nn.GELU()}[activation]
    shallow = ShallowAttention(2, 1, 2, 1, act, causal).double()
    deep = mm.theory.construct(shallow, name, splitting=splitting)
    _assert_equal(shallow, deep, torch.randn(2, 4, 2, dtype=torch.double))
    assert deep.head.weight.shape == (1, 2 + 1 + 2)
    assert len(deep.stage.blocks) % STEPS.get(splitting, 1) == 0


def test_operator_binding_and_proximal_steps_couple_too() -> None:
    torch.manual_seed(0)
    shallow = ShallowConvolution(1, 1, 1, (3,)).double()
    u = torch.randn(2, 1, 3, dtype=torch.double)
    _assert_equal(shallow, mm.theory.construct(shallow, "heavy_ball", "operator"), u)
    _assert_equal(shallow, mm.theory.construct(shallow, "proximal_fista"), u)
    attention = ShallowAttention(1, 1, 1, 1).double()
    deep = mm.theory.construct(attention, "heavy_ball", "operator", splitting="strang")
    _assert_equal(attention, deep, torch.randn(2, 3, 1, dtype=torch.double))


@pytest.mark.parametrize("name", ["heavy_ball", "leapfrog"])
def test_a_causal_network_sees_no_later_token(name: str) -> None:
    shallow = ShallowAttention(1, 1, 2, 1, causal=True).double()
    u = torch.randn(1, 4, 1, dtype=torch.double)
    other = u.clone()
    other[:, 2:] += 1
    with torch.no_grad():
        deep = mm.theory.construct(shallow, name)
        assert torch.equal(deep(u)[:, :2], deep(other)[:, :2])
        assert not torch.equal(deep(u)[:, 2:], deep(other)[:, 2:])


def test_what_cannot_be_constructed_is_refused() -> None:
    images = ShallowConvolution(1, 1, 1, (3,))
    tokens = ShallowAttention(1, 1, 1, 1)
    with pytest.raises(ValueError, match="has no pulses for the attention under lie_trotter splitting"):
        mm.theory.construct(tokens, "leapfrog", splitting="lie_trotter")
    with pytest.raises(ValueError, match="InputInjection.* has no pulses"):
        mm.theory.construct(images, "input_injection")
    with pytest.raises(ValueError, match="normalizes a part of its state"):
        mm.theory.construct(images, "yurii_former")
    with pytest.raises(ValueError, match=r"activation is Tanh\(\), of which act\(t\) - act\(-t\) is not linear"):
        mm.theory.construct(ShallowConvolution(1, 1, 1, (3,), nn.Tanh()), "heavy_ball")
    with pytest.raises(ValueError, match="zero padding is exact with ReLU"):
        mm.theory.construct(ShallowConvolution(1, 1, 1, (3,), nn.GELU(), padding="zeros"), "heavy_ball")
    with pytest.raises(ValueError, match="splitting is 'euler', but the algorithm asks gradient_f, gradient_g"):
        mm.theory.construct(tokens, "merge_and_run", splitting="euler")
    with pytest.raises(ValueError, match="Did you mean 'zeros'"):
        ShallowConvolution(1, 1, 1, (3,), padding="zero")  # pyright: ignore[reportArgumentType]
    for size in ((), 3, (1, 0)):
        with pytest.raises(ValueError, match="size is .*expected one to three numbers"):
            ShallowConvolution(1, 1, 1, size)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="neurons is 0; expected at least 1"):
        ShallowAttention(1, 1, 0, 1)
    deep = mm.theory.construct(ShallowConvolution(1, 1, 1, (2,), padding="zeros", radius=1), "gradient_descent")
    with pytest.raises(ValueError, match="the largest entry of the input is 2; the network is exact up to 1"):
        deep(torch.full((1, 1, 2), 2.0))
