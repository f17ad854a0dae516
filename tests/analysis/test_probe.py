"""What probes see, what they say, and that the network stays as it was."""

import random
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.analysis.probe import SeparabilityByLayer

QUICK = mm.Recipe(2, 64, mm.SGD(0.05), mm.StepDecay(at=()))


def digits(samples: int = 400) -> Any:
    data = mm.load_data("digits")
    train = cast(Any, data.train)
    x = data.prepare(train.inputs)
    return (x[:samples], train.targets[:samples]), (x[samples : samples + 200], train.targets[samples : samples + 200])


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    hard = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    mm.harden(hard, mm.Sign())
    return {
        "state of two tensors": mm.create_model(
            "resnet20(depth=3, width=4)", "heavy_ball(momentum=0.5)", in_channels=1
        ),
        "thresholds": hard,
        "tokens": mm.create_model("vit_tiny(depth=2, width=24, image_size=8, patch=4, num_classes=10)", in_channels=1),
        "vectors": nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Dropout(0.5), nn.Tanh(), nn.Linear(12, 10)),
    }


def averages(read: Tensor) -> np.ndarray:
    """The averages by hand: quarters of a map, the mean of tokens."""
    if read.ndim == 4:
        h, w = read.shape[2] // 2, read.shape[3] // 2
        parts = [(slice(0, h), slice(0, w)), (slice(0, h), slice(w, None))]
        parts += [(slice(h, None), slice(0, w)), (slice(h, None), slice(w, None))]
        read = torch.stack([read[:, :, a, b].mean((2, 3)) for a, b in parts], 2).flatten(1)
    return (read.mean(1) if read.ndim == 3 else read).numpy()


@pytest.mark.parametrize("name", networks())
def test_linear_probes_are_logistic_regressions_on_averages_of_what_is_read(name: str) -> None:
    """Against scikit-learn called by hand, one class after another."""
    from sklearn.linear_model import LogisticRegression

    model = networks()[name]
    (x, y), (x_test, y_test) = digits()
    separability = mm.probe(model, ((x, y), (x_test, y_test)))
    network = mm.as_network(model.eval())
    assert len(separability.layers) == len(network.layers)
    with torch.no_grad():
        states: list[Any] = [network.stem(torch.cat([x, x_test]))]
        for j, (layer, probed) in enumerate(zip(network.layers, separability.layers, strict=True)):
            states.append(layer(states[-1]))
            read = network.read(j, states[-1])
            assert probed.shape == tuple(read.shape[1:])
            features = averages(read).astype(np.float64)
            train, spread = features[: len(x)], features[: len(x)].std(0)
            features = (features - train.mean(0)) / np.where(spread < 1e-6, 1, spread)
            scores = np.stack(
                [
                    LogisticRegression(max_iter=1000)
                    .fit(features[: len(x)], y.numpy() == c)
                    .decision_function(features)
                    for c in range(10)
                ],
                1,
            )
            right = scores.argmax(1) == torch.cat([y, y_test]).numpy()
            assert probed.train_accuracy == pytest.approx(right[: len(x)].mean(), abs=0.02)
            assert probed.test_accuracy == pytest.approx(right[len(x) :].mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["linear", "cnn"])
@pytest.mark.parametrize("name", networks())
def test_the_network_and_the_world_stay_as_they_were(name: str, kind: Any) -> None:
    model = networks()[name].train()
    list(model.modules())[-1].eval()
    next(model.parameters()).requires_grad_(False)
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trained = [p.requires_grad for p in model.parameters()]
    drawn = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    mm.probe(model, digits(), kind, recipe=QUICK)
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == drawn[1:]  # type: ignore[index]
    assert all(torch.equal(value, tensors[key]) for key, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert trained == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_features_for_trained_probes_are_made_once(cache: Any) -> None:
    model = networks()["state of two tensors"]
    calls = [0] * 3
    for j, layer in enumerate(mm.as_network(model).layers):
        layer.register_forward_hook(
            lambda _, inputs, __, j=j: calls.__setitem__(j, calls[j] + len(cast(Any, inputs[0])[0]))
        )
    separability = mm.probe(
        model, digits(), "cnn", recipe=mm.Recipe(5, 64, mm.SGD(0.05), mm.StepDecay(at=())), cache=cache
    )
    assert len(separability.layers) == 3
    assert max(calls) <= 400 + 200 + 256 + 2  # all samples once, and a batch to see shapes and sizes


def test_more_layers_below_a_probe_or_in_it_tell_more() -> None:
    """On parity-like classes a linear probe of the input's copy tells nothing, one with a hidden layer all."""
    torch.manual_seed(0)
    x = torch.randn(1200, 2)
    y = (x.prod(1) > 0).long()
    still = nn.Linear(2, 2)
    folded = nn.Linear(2, 8)
    with torch.no_grad():
        still.weight.copy_(torch.eye(2))
        still.bias.zero_()
        folded.weight.copy_(torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]] * 2))
        folded.bias.zero_()
    model = nn.Sequential(still, nn.Sequential(folded, nn.ReLU()), nn.Linear(8, 2))
    data = ((x[:800], y[:800]), (x[800:], y[800:]))
    linear = mm.probe(model, data)
    assert linear.layers[0].test_accuracy < 0.65
    assert linear.layers[1].test_accuracy > 0.95  # x y = ((x + y)^2 - (x - y)^2) / 4, nearly |x + y| - |x - y|
    deep = mm.probe(model, data, "cnn", width=16, recipe=mm.Recipe(20, 64, mm.AdamW(0.01), mm.Cosine()))
    assert deep.layers[0].test_accuracy > 0.9


def test_what_was_found_is_told_in_words_numbers_and_a_picture() -> None:
    separability = mm.probe(networks()["vectors"], digits())
    layer = separability.layers[0]
    assert str(separability).split()[-4:] == [
        "1",
        "12",
        f"{100 * layer.train_accuracy:.2f}",
        f"{100 * layer.test_accuracy:.2f}",
    ]
    assert separability.to_dict()["layers"][0]["test_accuracy"] == separability.layers[0].test_accuracy
    train, test = separability.plot().axes[0].lines
    assert list(cast(Any, test.get_ydata())) == [100 * x.test_accuracy for x in separability.layers]
    assert list(cast(Any, train.get_ydata())) == [100 * x.train_accuracy for x in separability.layers]
    assert isinstance(separability, SeparabilityByLayer)


def test_a_loader_serves_linear_probes() -> None:
    (x, y), (x_test, y_test) = digits()
    loaders = DataLoader(TensorDataset(x, y), 64), DataLoader(TensorDataset(x_test, y_test), 64)
    model = networks()["vectors"]
    assert mm.probe(model, loaders).layers == mm.probe(model, digits()).layers
    with pytest.raises(ValueError, match="of a loader cannot be kept; expected tensors"):
        mm.probe(model, loaders, "cnn")


def test_what_cannot_be_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = networks()["vectors"], digits()
    (x, y), test = data
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "Linear has no repeated blocks", lambda: mm.probe(nn.Linear(2, 2), data)),
        (ValueError, "Did you mean 'cnn'", lambda: mm.probe(model, data, cast(Any, "cn"))),
        (ValueError, "hidden_layers is 0", lambda: mm.probe(model, data, "cnn", 0)),
        (ValueError, "cache of probe 'of'", lambda: mm.probe(model, data, "cnn", cache=cast(Any, "of"))),
        (ValueError, "is a regression", lambda: mm.probe(model, ((x, y.float()), (test[0], test[1].float())))),
        (ValueError, "fails on an example of the shape", lambda: mm.probe(model, "nested_rings")),
        (ValueError, "of one class", lambda: mm.probe(model, ((x, 0 * y), (test[0], 0 * test[1])))),
        (ValueError, "mixup=0.2", lambda: mm.probe(model, data, "cnn", recipe=mm.Recipe(mixup=0.2))),
    ]
    monkeypatch.setattr(mm.models.UnrolledNetwork, "read", lambda *_: None)
    silent = networks()["tokens"]
    cases.append((ValueError, r"read\(0, state\) .* gives NoneType; expected", lambda: mm.probe(silent, data)))
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
    monkeypatch.setattr("minimand.training.methods.local.activations.free_memory", lambda: 10.0)
    with pytest.raises(ValueError, match=r"^cache is 'memory' and needs .* expected 'disk', or fewer samples"):
        mm.probe(model, data, "cnn")
    nn.init.constant_(cast(nn.Linear, cast(nn.Sequential, model)[1]).bias, float("nan"))
    with pytest.raises(ValueError, match="layer 1 gives values that are NaN"):
        mm.probe(model, data)
