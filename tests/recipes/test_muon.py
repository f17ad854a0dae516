"""Muon against torch's own, its singular values, its routes, and what it costs a checkpoint."""

import copy
import itertools

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.torchvision import require_torchvision
from minimand.recipes.muon import MuonOptimizer, orthogonalize
from minimand.recipes.parameter_groups import hidden_matrices


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (16, 16)])
def test_singular_values_end_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, *shape)))
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.2


def test_it_beats_random_steps_of_its_size_along_the_gradient() -> None:
    # Steepest descent under the spectral norm: <G, O> is the nuclear norm, the largest over matrices of norm 1.
    torch.manual_seed(0)
    gradient = torch.randn(1, 12, 20)
    step = orthogonalize(gradient)[0]
    best = float((gradient[0] * step).sum() / torch.linalg.matrix_norm(step, 2))
    for _ in range(200):
        other = torch.randn(12, 20)
        assert float((gradient[0] * other).sum() / torch.linalg.matrix_norm(other, 2)) < best


def test_updates_are_those_of_torch_up_to_its_bfloat16() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon came with torch 2.9")
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=False) for a, b in ((6, 64), (64, 32), (32, 48), (48, 3))]
    net, twin_layers = nn.Sequential(*layers), copy.deepcopy(layers)
    twin = nn.Sequential(*twin_layers)
    ours = mm.Muon(lr=0.02, momentum=0.9, weight_decay=0.1).build(net)
    matrices = [twin_layers[1].weight, twin_layers[2].weight]
    torchs = torch.optim.Muon(matrices, lr=0.02, momentum=0.9, weight_decay=0.1)
    for group in ours.param_groups:
        group["lr"] = 0.02 * group["share"]
    start = [matrix.detach().clone() for matrix in matrices]
    for _ in range(4):
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        torchs.step()
    for p, q, before in zip((layers[1].weight, layers[2].weight), matrices, start, strict=True):
        moved = q - before
        assert float((p - q).detach().norm() / moved.detach().norm()) < 0.03


def test_convolutions_move_alike_in_every_memory_layout() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(144, 3))
    twin: nn.Module = copy.deepcopy(net).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.randn(2, 3, 9, 9)
    for model in (net, twin):
        optimizer = mm.Muon(lr=0.02).build(model)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


def test_a_step_of_a_matrix_has_the_size_of_the_rate() -> None:
    torch.manual_seed(0)
    middle = nn.Linear(24, 12)
    net = nn.Sequential(nn.Linear(4, 24), middle, nn.Linear(12, 2))
    before = middle.weight.detach().clone()
    optimizer = mm.Muon(lr=0.1, momentum=0.0).build(net)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    values = torch.linalg.svdvals((middle.weight - before).detach())
    assert float(values.min()) > 0.05
    assert float(values.max()) < 0.115


def test_first_and_last_layers_embeddings_and_vectors_go_to_adam() -> None:
    model = mm.create_model("mlp", "heavy_ball(momentum=0.5)", in_channels=4, depth=2, width=8)
    names = {name for name, p in model.named_parameters() if p in hidden_matrices(model)}
    assert names == {f"body.0.layers.{k}.block.{i}.weight" for k in (0, 1) for i in (0, 2)}
    sentence = nn.Sequential(nn.Embedding(9, 8), nn.LSTM(8, 8), nn.Linear(8, 8), nn.Linear(8, 9))
    assert {n for n, p in sentence.named_parameters() if p in hidden_matrices(sentence)} == {"2.weight"}


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path) -> None:
    data = "nested_rings"
    recipe = mm.Recipe(epochs=3, optimizer="muon(lr=0.02)", schedule="cosine")

    def model() -> nn.Module:
        torch.manual_seed(0)
        return mm.create_model("mlp", in_channels=2, num_classes=2, width=16, depth=3)

    whole, halved = model(), model()
    mm.fit(whole, data, recipe=recipe)

    def stop(event) -> None:
        if type(event).__name__ == "Saved":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mm.fit(halved, data, recipe=recipe, run=tmp_path / "run", callbacks=[stop])
    again = model()
    mm.fit(again, data, recipe=recipe, run=tmp_path / "run")
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_weight_moves_alike_however_it_and_its_gradient_lie_in_memory() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 8, 4, 3, 3)
    layouts = [torch.contiguous_format, torch.channels_last, None]

    def laid(values: torch.Tensor, layout: torch.memory_format | None) -> torch.Tensor:
        if layout is None:
            return values.transpose(2, 3).contiguous().transpose(2, 3)
        return values.clone(memory_format=layout)

    ends = []
    for of_weight, of_gradient in itertools.product(layouts, layouts):
        weight = nn.Parameter(laid(start, of_weight))
        weight.grad = laid(gradient, of_gradient)
        MuonOptimizer([{"params": [weight], "momentum": 0.9, "weight_decay": 0.1}], lr=0.1).step()
        ends.append(weight.detach())
    for end in ends:
        torch.testing.assert_close(end, ends[0], atol=1e-4, rtol=1e-3)


def test_the_size_of_gradients_does_not_matter() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(1, 6, 4)
    for size in (1e-5, 1e5, 1e20, 1e37):
        torch.testing.assert_close(orthogonalize(size * gradient), orthogonalize(gradient), atol=1e-4, rtol=1e-3)
    assert not orthogonalize(0 * gradient).any()


def test_complex_weights_go_to_adam() -> None:
    torch.manual_seed(0)
    middle = nn.Linear(4, 4, dtype=torch.complex64)
    net = nn.Sequential(copy.deepcopy(middle), middle, copy.deepcopy(middle))
    before = middle.weight.detach().clone()
    optimizer = mm.Muon().build(net)
    net(torch.randn(2, 4, dtype=torch.complex64)).abs().sum().backward()
    optimizer.step()
    assert (middle.weight - before).detach().imag.abs().min() > 0


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="Muon.momentum is 1"):
        mm.Muon(momentum=1.0)
    with pytest.raises(ValueError, match="Muon.lr is -1"):
        mm.Muon(lr=-1)
    with pytest.raises(TypeError, match="Muon.others"):
        mm.Muon(others=mm.SGD())  # pyright: ignore[reportArgumentType]


def test_a_linear_layer_of_transformers_moves_as_one_of_torch_does() -> None:
    """Its weight is (in, out), so the size of a step is that of the transposed matrix."""
    require_torchvision("by transformers")  # which transformers imports
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Embedding(5, 4), Conv1D(16, 4), Conv1D(4, 16), nn.Linear(4, 5))
    ours = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 16), nn.Linear(16, 4), nn.Linear(4, 5))
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.copy_(other if mine.shape == other.shape else other.T)
    for model in (theirs, ours):
        optimizer = mm.Muon().build(model)
        model(torch.arange(5)).square().sum().backward()
        optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other if mine.shape == other.shape else other.T)


def test_a_transposed_convolution_without_overlap_moves_as_the_linear_layer_that_it_is() -> None:
    """Of a pixel, whose patches it answers: rows of its weight are inputs, and the size of a step is by both."""
    torch.manual_seed(0)
    patches, linear = nn.ConvTranspose2d(4, 8, 2, 2, bias=False), nn.Linear(4, 32, bias=False)
    gradient = torch.randn(4, 8, 2, 2)
    moved = []
    for layer, of_layer in ((patches, gradient), (linear, gradient.flatten(1).T)):
        before = layer.weight.detach().clone()
        layer.weight.grad = of_layer.clone()
        mm.Muon().build(nn.Sequential(nn.Conv2d(2, 4, 1), layer, nn.Conv2d(8, 2, 1))).step()
        moved.append((layer.weight - before).detach())
    torch.testing.assert_close(moved[0].flatten(1).T, moved[1], atol=1e-4, rtol=1e-3)
