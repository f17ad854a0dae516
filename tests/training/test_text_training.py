"""Training on text: what is judged, what is counted, what the run keeps, and what generation makes of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.data.text.text import make_text
from minimand.data.text.windows import Windows
from minimand.experiments.generate import generate_text
from minimand.training.loop.events import Event, StepDone

TEXT = "".join(f"{i} bottles of beer on the wall, take one down and pass it around, " for i in range(99, 0, -1))
RECIPE = mm.Recipe(epochs=2, batch_size=8, optimizer=mm.AdamW(1e-2), schedule=mm.Cosine(warmup=0.1, floor=0.1), clip=1)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


class Reader(nn.Module):
    """Logits (N, T, tokens) from the tokens up to each place."""

    def __init__(self, tokens: int, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(self.embedding(x))[0])


@pytest.fixture
def data(tmp_path: Path) -> mm.Data:
    (tmp_path / "beer.txt").write_text(TEXT)
    return mm.load_data(str(tmp_path / "beer.txt"), context=16, windows=64)


@pytest.fixture
def reader(data: mm.Data) -> Reader:
    torch.manual_seed(0)
    return Reader(data.num_outputs)


@pytest.fixture
def run(data: mm.Data, reader: Reader, tmp_path: Path) -> Path:
    mm.fit(reader, data, run=tmp_path / "run", recipe=RECIPE, progress=False)
    return tmp_path / "run"


@pytest.mark.parametrize("context", [5, 16, 21, 22])
def test_the_loss_is_the_mean_over_every_token_that_follows_another(context: int) -> None:
    data = make_text("text", "", {"": [TEXT]}, context=context)
    assert data.text is not None
    model = Reader(data.num_outputs).eval()
    tokens = torch.tensor(data.text.tokenizer.encode(TEXT[int(0.9 * len(TEXT)) :]))
    total, count = 0.0, 0
    for begin in range(0, len(tokens) - 1, context):
        window = tokens[begin : begin + context + 1]
        with torch.no_grad():
            total += float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
        count += len(window) - 1
    evaluation = mm.evaluate(model, data)
    assert count == len(tokens) - 1
    assert evaluation.loss == pytest.approx(total / count, rel=1e-5)
    assert (evaluation.accuracy, evaluation.confusion) == (None, None)
    assert evaluation.metrics["bits_per_byte"] == pytest.approx(total / count / math.log(2), rel=1e-5)


@pytest.mark.parametrize("tokens", ["character", "byte", "bpe(260)"])
def test_bits_a_byte_and_nats_a_character_do_not_depend_on_tokens(tokens: str) -> None:
    text = TEXT.replace("beer", "bière")
    data = make_text("text", "", {"": [text]}, tokens=tokens, context=16)
    model = Reader(data.num_outputs)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)  # every token is as likely
    test = text[int(0.9 * len(text)) :]
    assert isinstance(data.test, Windows)
    count = len(data.test.tokens)
    nats = math.log(data.num_outputs) * count
    metrics = mm.evaluate(model, data).metrics
    assert metrics["nats_per_character"] == pytest.approx(nats / len(test), rel=1e-5)
    assert metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(test.encode()), rel=1e-5)


def test_a_record_tells_tokens_and_their_speed_and_a_report_what_is_judged(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["tokens"] for record in records] == [64 * 16, 2 * 64 * 16]
    assert all(record["tokens_per_second"] > 0 for record in records)
    assert records[0]["test_loss"] > records[1]["test_loss"] > 0
    assert {record["test_accuracy"] for record in records} == {None}
    page = (run / "report.html").read_text()
    for words in ("bits a byte, test", "nats a character, test", "tokens seen", "FLOPs a token, forward"):
        assert words in page
    assert "accuracy" not in page


def _stop_after(step: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise KeyboardInterrupt

    return stop


def _that_draws(tokens: int) -> nn.Module:
    """A language model that draws a sign for each sample and layer, and drops entries."""
    sizes: dict[str, Any] = {"num_tokens": tokens, "context": 16, "width": 8, "depth": 1, "heads": 2}
    return mm.create_model("gpt_nano", "bdia", dropout=0.1, **sizes)


@pytest.mark.parametrize(("make", "step"), [(Reader, 3), (Reader, 13), (_that_draws, 13)])
def test_a_run_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(
    data: mm.Data, tmp_path: Path, make: Callable[[int], nn.Module], step: int
) -> None:
    results = []
    for name, stops in (("whole", []), ("stopped", [step])):
        for callbacks in ([*map(_stop_after, stops)], []):
            torch.manual_seed(0)
            model = make(data.num_outputs)
            options: dict[str, Any] = {"recipe": RECIPE, "checkpoint_every": 0, "progress": False}
            try:
                result = mm.fit(model, data, run=tmp_path / name, callbacks=callbacks, **options)
            except KeyboardInterrupt:
                continue
        results.append((result.model.state_dict(), [r["tokens"] for r in result.history], result.test_loss))
    (whole, tokens, loss), (resumed, tokens_resumed, loss_resumed) = results
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tokens, loss) == (tokens_resumed, loss_resumed)


def test_another_text_in_the_same_place_is_another_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "beer.txt").write_text(TEXT.replace("beer", "wine"))
    other = mm.load_data(str(tmp_path / "beer.txt"), context=16, windows=64)
    with pytest.raises(MinimandError, match="holds a run with another configuration"):
        mm.fit(Reader(other.num_outputs), other, run=run, recipe=RECIPE, progress=False)


def test_a_run_judges_other_texts_in_its_own_tokens(run: Path, data: mm.Data, tmp_path: Path) -> None:
    opened = mm.load(run, model=Reader(data.num_outputs))
    assert opened.inputs.text is not None
    assert opened.inputs.text.fits(data.text)
    assert opened.evaluate().loss == pytest.approx(opened.evaluate(data).loss)
    (tmp_path / "other.txt").write_text(TEXT.replace("beer", "wine")[::-1])
    loaded = mm.load_data(str(tmp_path / "other.txt"), tokens=str(run), context=16)
    assert opened.evaluate(loaded).loss > opened.evaluate(data).loss
    wrong = [mm.load_data(str(tmp_path / "other.txt"), tokens="byte", context=16), mm.load_data("parity")]
    wrong.append(mm.load_data(str(tmp_path / "other.txt"), tokens=str(run), context=17))
    for other in wrong:
        with pytest.raises(MinimandError, match=r"was trained on windows of 16 tokens .* tokens="):
            opened.evaluate(other)
    (tmp_path / "other.txt").write_text("ÄÖÜ" * 30)
    with pytest.raises(MinimandError, match="the text has the character 'Ä'"):
        mm.load_data(str(tmp_path / "other.txt"), tokens=str(run))


def test_a_run_without_its_tokenizer_says_so_and_writes_it_again(run: Path, data: mm.Data) -> None:
    tokenizer = (run / "tokenizer.json").read_text()
    (run / "tokenizer.json").write_text(tokenizer.replace("e", "E", 1))
    with pytest.raises(MinimandError, match="tokenizer.json"):
        mm.load(run, model=Reader(data.num_outputs))
    (run / "tokenizer.json").unlink()
    with pytest.raises(MinimandError, match=r"there is no tokenizer.json in .*; go on with the run to write it again"):
        mm.load(run, model=Reader(data.num_outputs))
    mm.fit(Reader(data.num_outputs), data, run=run, recipe=RECIPE, progress=False)
    assert (run / "tokenizer.json").read_text() == tokenizer
    with pytest.raises(MinimandError, match="is of another model"):
        mm.load(run, model=Reader(data.num_outputs + 1))


def test_text_is_generated_from_a_prompt_the_same_for_the_same_seed(run: Path, data: mm.Data) -> None:
    opened = mm.load(run, model=Reader(data.num_outputs), device="cpu")
    first = opened.generate("9 bottles", tokens=40, seed=1)
    assert first.startswith("9 bottles")
    assert len(first) == 49
    assert first == opened.generate("9 bottles", tokens=40, seed=1)
    assert first != opened.generate("9 bottles", tokens=40, seed=2)
    likeliest = opened.generate("9 bottles", tokens=20, temperature=0)
    assert likeliest == opened.generate("9 bottles", tokens=20, top_k=1, seed=5)


@pytest.mark.parametrize("context", [16, 24])
def test_a_text_is_drawn_from_windows_as_long_as_those_of_training(data: mm.Data, context: int) -> None:
    """Also by a model that could read more: positions beyond were never trained."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_tokens": data.num_outputs, "width": 16, "depth": 1, "heads": 2}
    model = mm.create_model("gpt_nano", context=context, **sizes).eval()
    for parameter in model.parameters():
        parameter.data.mul_(10)
    assert data.text is not None
    prompt = "9 bottles of beer"
    ids = torch.tensor([data.text.tokenizer.encode(prompt).tolist()])
    for _ in range(20):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids[:, -16:])[:, -1:].argmax(-1)], 1)
    drawn = generate_text(model, data.text, 16, prompt, tokens=20, temperature=0)
    assert drawn == data.text.tokenizer.decode(ids[0].tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "Ω"}, "prompt is 'Ω', but the text has the character 'Ω'"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": 7}, "prompt is int"),
        ({"prompt": "a", "tokens": 0}, "tokens is 0; expected an integer, at least 1"),
        ({"prompt": "a", "temperature": -1.0}, "temperature is -1.0; expected at least 0"),
        ({"prompt": "a", "top_k": 0}, "top_k is 0; expected an integer, at least 1"),
        ({"prompt": "a", "seed": -1}, "seed is -1"),
    ],
)
def test_what_generation_cannot_do_is_told(run: Path, data: mm.Data, settings: dict[str, Any], message: str) -> None:
    opened = mm.load(run, model=Reader(data.num_outputs))
    with pytest.raises(MinimandError, match=message):
        opened.generate(**settings)


def test_what_is_not_for_text_is_refused_in_words(data: mm.Data, reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(MinimandError, match="beer is a text, and Sequential has no embedding"):
        mm.fit(nn.Sequential(nn.Linear(16, 4)), data)
    with pytest.raises(MinimandError, match="loss is 'mse', but beer is a text"):
        mm.fit(reader, data, loss="mse")
    with pytest.raises(MinimandError, match="Recipe.mixup"):
        mm.fit(reader, data, recipe=mm.Recipe(epochs=1, mixup=0.2), progress=False)
    with pytest.raises(
        MinimandError, match=r"outputs for .* the shape .*; beer has 29 tokens: expected \(\d+, 16, 29\)"
    ):
        mm.fit(nn.Sequential(nn.Embedding(29, 8), nn.Flatten(), nn.Linear(128, 29)), data, progress=False)
    with pytest.raises(MinimandError, match="the model is one of text"):
        mm.predict(reader, torch.zeros(1, 16), data=data)
    mm.fit(
        mm.create_model("mlp(depth=3)", in_channels=8, num_classes=2), "parity", run=tmp_path / "bits", progress=False
    )
    with pytest.raises(MinimandError, match="is no run of a language model"):
        mm.load(tmp_path / "bits").generate("a")


def test_a_part_of_the_text_validates_and_stops_early(data: mm.Data, reader: Reader) -> None:
    recipe = mm.Recipe(epochs=3, batch_size=8, optimizer=mm.AdamW(1e-2), validation=0.2, early_stopping=1)
    result = mm.fit(reader, data, recipe=recipe, progress=False)
    assert 0 < result.history[-1]["validation_loss"] < math.log(30)


def test_the_default_recipe_of_text_warms_up_and_its_rate_falls_with_width(data: mm.Data) -> None:
    narrow, wide = (mm.recipes.default_recipe(data, Reader(30, width)) for width in (128, 512))
    assert wide.optimizer.lr == pytest.approx(narrow.optimizer.lr / 4)
    assert isinstance(narrow.schedule, mm.Cosine)
    assert (narrow.schedule.warmup, narrow.schedule.floor, narrow.clip) == (0.05, 0.1, 1.0)
    assert narrow.batch_size == 64
