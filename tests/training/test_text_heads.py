"""Local learning and probes on text: a classifier of each position."""

import pytest
import torch

import minimand as mm


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> mm.Data:
    folder = tmp_path_factory.mktemp("text")
    (folder / "letters.txt").write_text("abcabdabe " * 200)
    return mm.load_data(str(folder / "letters.txt"), tokens="character", context=8)


def test_each_layer_learns_the_next_token_and_is_probed_for_it(text: mm.Data) -> None:
    torch.manual_seed(0)
    model = mm.models.model_for("gpt_nano(width=16, depth=1, heads=2)", text, "heavy_ball")
    recipe = mm.Recipe(epochs=6, batch_size=8, optimizer="adamw(lr=0.01)")
    result = mm.fit(model, text, method="layerwise", recipe=recipe)
    assert result.test_loss is not None
    assert result.test_loss < 1.4  # of log 6 = 1.79 by chance
    separability = mm.probe(model, text)
    assert "next token, the first 20,000" in str(separability)
    assert [layer.shape for layer in separability.layers] == [(8, 16)] * 2
    assert separability.layers[-1].test_accuracy > 0.5


def test_what_has_no_meaning_for_text_is_refused(text: mm.Data) -> None:
    model = mm.models.model_for("gpt_nano(width=8, depth=1, heads=2)", text)
    with pytest.raises(ValueError, match="kind is 'cnn', and .* is a text; expected 'linear'"):
        mm.probe(model, text, "cnn")
    with pytest.raises(ValueError, match="auxiliary is 'predsim', which compares samples by their classes"):
        mm.fit(model, text, method=mm.Layerwise(auxiliary="predsim"), recipe=mm.Recipe(epochs=1))
