"""The skeletons of language models, each against its published formulas written out again."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm

A = mm.algorithms
LAYERS, WIDTH = 5, 8


def _blocks(normalized: bool) -> list[Any]:
    torch.manual_seed(0)
    blocks: list[Any] = [mm.blocks.two_layer(WIDTH, 12) for _ in range(LAYERS)]
    norms = [nn.LayerNorm(WIDTH, bias=False) for _ in range(LAYERS)]
    return [{"gradient": b, "normalize": n} for b, n in zip(blocks, norms, strict=True)] if normalized else blocks


def _stage(algorithm: mm.Algorithm, normalized: bool = False) -> Any:
    stage = mm.unroll(algorithm, _blocks(normalized)).double()
    for i, vector in enumerate(stage.coefficients.values()):
        vector.data = torch.linspace(0.2, 0.7, len(vector), dtype=torch.double) + i / 20
    return stage


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def _inputs(count: int = 1) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(3, 4, WIDTH, dtype=torch.double, requires_grad=True) for _ in range(count)]


def _same(stage: Any, start: Any, inputs: Sequence[Tensor], expected: Tensor) -> None:
    """Values and gradients, by input and by parameter, of both ways to run a stage and of a formula."""
    by_layers = stage.start(start)
    for layer in stage.layers:
        by_layers = layer(by_layers)
    variables = [*inputs, *stage.parameters()]
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, variables, weights, materialize_grads=True, retain_graph=True)
    for output in (stage(start), stage.read(by_layers)):
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            torch.autograd.grad(output, variables, weights, materialize_grads=True), wanted, rtol=1e-8, atol=1e-9
        )


@pytest.mark.parametrize("first_velocity", ["own", "zero", "input"])
@pytest.mark.parametrize("cls", [A.YuriiFormer, A.TripleMomentumFormer])
def test_formers_are_their_formulas(cls: Any, first_velocity: str) -> None:
    stage = _stage(cls(first_velocity=first_velocity), normalized=True)
    x, velocity = inputs = _inputs(2)
    c = {name: stage.coefficients[name] for name in stage.coefficients}
    z, v = x, {"own": velocity, "zero": torch.zeros_like(x), "input": x}[first_velocity]
    for k, block in enumerate(stage.blocks):
        asked_at = z + c["lookahead"][k] * v
        v = _norm(c["momentum"][k] * v + c["step_size"][k] * block["gradient"](asked_at), block["normalize"].weight)
        z = z + (c["progress"][k] if "progress" in c else 1) * v
    start = (x, velocity) if first_velocity == "own" else x
    _same(stage, start, inputs if first_velocity == "own" else [x], z)


def test_the_triple_momentum_former_is_yurii_former_in_other_coordinates() -> None:
    """With p v as velocity: weight p w, momentum m / p of the step before, look-ahead l / p."""
    triple = _stage(A.TripleMomentumFormer(first_velocity="zero"), normalized=True)
    triple.coefficients["progress"].data = torch.linspace(1.2, 1.6, LAYERS, dtype=torch.double)  # m / p stays below 1
    yurii = mm.unroll(A.YuriiFormer(first_velocity="zero"), triple.blocks).double()
    progress = triple.coefficients["progress"].data
    before = torch.cat([torch.ones(1), progress[:-1]])
    for name in ("momentum", "lookahead"):
        yurii.coefficients[name].data = triple.coefficients[name].data / before
    yurii.coefficients["step_size"].data = triple.coefficients["step_size"].data.clone()
    (x,) = _inputs()
    expected = triple(x)
    for block, p in zip(triple.blocks, progress, strict=True):
        block["normalize"].weight.data *= p
    torch.testing.assert_close(yurii(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("doubly_stochastic", [False, True])
def test_hyper_connections_are_matrices_between_streams(doubly_stochastic: bool) -> None:
    n = 3
    stage = _stage(A.HyperConnections(streams=n, doubly_stochastic=doubly_stochastic))
    (x,) = inputs = _inputs()
    mixing, writing, reading = (stage.coefficients[name].view(LAYERS, -1) for name in ("mixing", "writing", "reading"))
    streams = torch.stack([x] * n)
    for k, block in enumerate(stage.blocks):
        r = torch.eye(n, dtype=x.dtype)[k % n] + reading[k]
        if doubly_stochastic:
            r = torch.eye(n, dtype=x.dtype)[k % n] + torch.cat([reading[k, :-1], -reading[k, :-1].sum()[None]])
            matrix = torch.eye(n, dtype=x.dtype)
            for t, (i, j) in zip(mixing[k], [(0, 1), (0, 2), (1, 2)], strict=True):
                swap = torch.eye(n, dtype=x.dtype)
                swap[[i, j]] = swap[[j, i]]
                matrix = ((1 - t) * torch.eye(n, dtype=x.dtype) + t * swap) @ matrix
            torch.testing.assert_close(matrix.sum(0), torch.ones(n, dtype=x.dtype))
            torch.testing.assert_close(matrix.sum(1), torch.ones(n, dtype=x.dtype))
        else:
            matrix = torch.eye(n, dtype=x.dtype) + mixing[k].view(n, n)
        answer = block(torch.einsum("s,s...->...", r, streams))
        added = torch.einsum("s,...->s...", 1 + writing[k], answer)
        streams = torch.einsum("ij,j...->i...", matrix, streams) + added
    _same(stage, x, inputs, streams.mean(0))


def test_doubly_stochastic_hyper_connections_are_consistent_and_their_gains_flat() -> None:
    stage = _stage(A.HyperConnections(streams=3, doubly_stochastic=True))
    stage.coefficients["writing"].data.zero_()
    certificate = mm.certify(stage.learned(), depth=LAYERS)
    assert certificate.consistent
    assert certificate.gains == pytest.approx((1.0,) * LAYERS)


def test_dense_former_averages_all_earlier_outputs() -> None:
    stage = _stage(A.DenseFormer())
    (x,) = inputs = _inputs()
    weights = iter(stage.coefficients["weights"].unbind())
    outputs, y = [x], x
    for block in stage.blocks:
        outputs.append(y + block(y))
        y = outputs[-1] + sum(next(weights) * z for z in outputs)
    assert next(weights, None) is None
    _same(stage, x, inputs, y)


def test_learned_tables_are_certified_beyond_the_last_layer() -> None:
    """Zero-stability looks at four times the depth: later steps go on with the last weights, from the newest on."""
    for algorithm in (A.DenseFormer(), A.HyperConnections()):
        stage = _stage(algorithm)
        for vector in stage.coefficients.values():
            vector.data = vector.data / 10
        assert "largest response" in str(mm.certify(stage.learned(), depth=LAYERS))


def test_bdia_draws_a_sign_for_each_sample_and_layer_in_training_alone() -> None:
    stage = mm.unroll("bdia", _blocks(False)).double()
    (x,) = _inputs()
    plain = mm.unroll("gradient_descent", stage.blocks)
    torch.testing.assert_close(stage.eval()(x), plain(x))

    def by_signs(signs: Tensor) -> Tensor:
        z = previous = x
        for g, block in zip(signs, stage.blocks, strict=True):
            g = g[:, None, None]
            z, previous = g * previous + (1 - g) * z + (1 + g) * block(z), z
        return z

    stage.train()
    torch.manual_seed(3)
    drawn = stage(x)
    torch.manual_seed(3)
    signs = torch.stack([torch.where(torch.rand(3, 1, 1)[:, 0, 0] < 0.5, 0.5, -0.5) for _ in range(LAYERS)])
    assert not (signs == signs[:, :1]).all()
    torch.testing.assert_close(drawn, by_signs(signs.double()))
    assert not torch.equal(drawn, stage(x))


def test_a_coefficient_may_differ_by_channel() -> None:
    """By the last dimension of tokens and vectors, by the second one of maps."""
    algorithm = A.HeavyBall(momentum=mm.Learnable(0.5, -1, 1, channels=WIDTH))
    stage = _stage(algorithm)
    m = stage.coefficients["momentum"].view(LAYERS, WIDTH)
    (x,) = inputs = _inputs()
    z, previous = x, x
    for k, block in enumerate(stage.blocks):
        z, previous = z + block(z) + m[k] * (z - previous), z
    _same(stage, x, inputs, z)

    maps = torch.randn(2, WIDTH, 3, 3)
    on_maps = mm.unroll(algorithm, [nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(2)])
    on_maps.coefficients["momentum"].data = torch.linspace(-0.5, 0.5, 2 * WIDTH)
    first = maps + on_maps.blocks[0](maps)
    factor = on_maps.coefficients["momentum"][WIDTH:].view(WIDTH, 1, 1)
    torch.testing.assert_close(on_maps(maps), first + on_maps.blocks[1](first) + factor * (first - maps))


def test_the_certificate_of_a_normalized_velocity_says_what_holds_and_what_is_open() -> None:
    certificate = mm.certify("yurii_former", depth=12)
    assert certificate.consistent
    assert (certificate.zero_stable, certificate.order, certificate.poles) == (None, None, None)
    assert not certificate.reversible
    assert not certificate.universal
    for promise in ("|output - x| <= 12 max|w| sqrt(d)", "not covered", "second input"):
        assert promise in str(certificate)
    assert not mm.certify("yurii_former(first_velocity='input')", depth=12).consistent


@pytest.mark.parametrize("algorithm", ["yurii_former", "hyper_connections", "dense_former", "bdia"])
def test_its_wiring_is_drawn_with_every_input_and_map(algorithm: str) -> None:
    pytest.importorskip("matplotlib")
    texts = [text.get_text() for axes in mm.certify(algorithm, depth=3).plot().axes for text in axes.texts]
    wanted = {"x", "T₀", "out"} | ({"velocity", "N₂"} if algorithm == "yurii_former" else set())
    assert wanted <= set(texts)


def test_the_bound_of_a_normalized_velocity_holds() -> None:
    """Even where blocks answer hugely, the output moves by no more than the certificate's bound."""
    stage = _stage(A.YuriiFormer(first_velocity="zero"), normalized=True)
    for parameter in stage.blocks[0]["gradient"].parameters():
        parameter.data *= 1e3
    (x,) = _inputs()
    largest = max(block["normalize"].weight.abs().max().item() for block in stage.blocks)
    assert (stage(x) - x).norm(dim=-1).max() <= LAYERS * largest * math.sqrt(WIDTH)


class _OutsideTheState(mm.Algorithm):
    """v = m v - s grad(x);  x = x + N(v): the normalization is not fed back."""

    momentum: mm.Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient: Any, normalize: Any, k: int) -> Any:
        x, v = state
        v = self.momentum(k) * v - gradient(x)
        return x + normalize(v), v

    def read(self, state: Any) -> Any:
        return state[0]


def test_a_normalization_outside_the_state_leaves_the_inverse_in_closed_form() -> None:
    assert mm.certify(_OutsideTheState(), depth=6).reversible
    assert str(mm.certify("yurii_former", depth=6).inverse).startswith("none (the normalization itself")
    stage: Any = mm.unroll(_OutsideTheState(), _blocks(True)).double()
    (x,) = _inputs()
    states = [stage.start(x)]
    for layer in stage.layers:
        states.append(layer(states[-1]))
    z, v = states[-1]
    for block in reversed(stage.blocks):
        z = z - block["normalize"](v)
        v = (v - block["gradient"](z)) / 0.5
    torch.testing.assert_close((z, v), states[0])


def test_without_normalization_the_step_is_nesterovs_method() -> None:
    known = mm.identify("general_momentum(step_size=0.7, momentum=0.5, lookahead=0.5)").algorithm
    assert known == A.Nesterov(step_size=0.7, momentum=0.5)
    assert mm.equivalent("general_momentum(lookahead=0)", "heavy_ball").relation == "identical"
    r = 0.5
    b, g, d = r**2 / (2 - r), r**2 / ((1 + r) * (2 - r)), r**2 / (1 - r**2)
    general = A.GeneralMomentum(step_size=1 + r, momentum=b, lookahead=g, readout=d)
    assert mm.equivalent(general, A.TripleMomentum(rate=r)).relation == "identical"


def test_the_certificate_of_drawn_signs_is_of_every_draw_and_of_the_mean() -> None:
    text = str(mm.certify("bdia", depth=8))
    assert "consistent for every draw" in text
    assert "gradient descent's (not the mean of the" in text
    drawn = mm.certify("bdia", depth=8).reasons["drawn"]
    assert (
        "in training every draw is reversible in closed form" in drawn
    )  # at rest it is gradient descent, which is not
    assert "reversible" not in mm.certify(A.BDIA(sign=mm.Drawn(0.0, 0.5)), depth=8).reasons["drawn"]
    for sign in (-0.5, 0.5):
        assert mm.equivalent(A.BDIA(sign=sign), A.HeavyBall(step_size=1 + sign, momentum=-sign)).relation == "identical"
    assert mm.identify("gradient_descent").algorithm == A.GradientDescent()


def test_the_certificate_says_whether_tables_may_learn_anything() -> None:
    """Rows of the free matrix need not sum to 1; those of a product of averages do."""
    assert "consistent at the present values of mixing" in mm.certify("hyper_connections", depth=4).reasons["learned"]
    kept_consistent = mm.certify("hyper_connections(doubly_stochastic=True)", depth=4)
    assert "consistent whatever values mixing" in kept_consistent.reasons["learned"]
    assert mm.certify("heavy_ball(momentum=Learnable(0.5, 0, 1))", depth=4).reasons["learned"] == ""


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("yurii_former(first_velocity='own_')", "first_velocity.*'own_'.*Did you mean 'own'"),
        ("heavy_ball(momentum=(0.1, 0.2))", r"HeavyBall.momentum is the table \(0.1, 0.2\); expected a number"),
        (
            "hyper_connections(writing=(1, 2, 3, 4, 5))",
            r"writing is the table .*expected a number, or a table of the sh",
        ),
        ("hyper_connections(streams=1)", r"HyperConnections.streams is 1; expected an integer of at least 2"),
        ("bdia(sign=Drawn(-0.5, 'x'))", "Drawn.high is 'x'; expected a finite number"),
        ("bdia(sign=2)", r"BDIA.sign is 2, outside \[-1, 1\]"),
        (
            "hyper_connections(mixing=1.5, doubly_stochastic=True)",
            "mixing is 1.5, the share of an average of two streams",
        ),
        ("heavy_ball(momentum=Learnable(0.5, 0, 1, channels=0))", "Learnable.channels is 0; expected a positive"),
    ],
)
def test_bad_settings(algorithm: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mm.certify(algorithm)


def test_a_stage_says_which_inputs_it_starts_from() -> None:
    stage = mm.unroll("yurii_former", _blocks(True))
    with pytest.raises(ValueError, match=r"was given one tensor; expected 2: \(x, velocity\)"):
        stage(torch.randn(2, WIDTH))
    with pytest.raises(ValueError, match="was given 2 tensors; expected 1"):
        mm.unroll("heavy_ball", _blocks(False))((torch.randn(2, WIDTH), torch.randn(2, WIDTH)))
