"""A language model on the command line, from a text file to what it writes."""

from pathlib import Path

import pytest

from minimand.cli import main

MODEL = "gpt_nano(width=16, depth=1)"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("song.txt").write_text("".join(f"{i} bottles of beer on the wall.\n" for i in range(99, 0, -1)))


def test_a_text_is_trained_on_judged_gone_on_with_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    data = "song.txt(context=16, windows=16)"
    main(["train", "--data", data, "--model", MODEL, "--epochs", "1", "--run", "song", "--quiet"])
    main(["generate", "song", "--prompt", "9 bottles", "--tokens", "5", "--temperature", "0"])
    assert "\n9 bottles" in capsys.readouterr().out
    main(["evaluate", "song", "--data", "song.txt"])
    assert "bits per byte" in capsys.readouterr().out
    arms = ["--algorithm", "gradient_descent", "heavy_ball", "--seeds", "2", "--epochs", "1"]
    main(["compare", "--data", data, "--model", MODEL, *arms, "--run", "both", "--quiet"])
    printed = capsys.readouterr().out
    assert "test loss" in " ".join(printed.split())
    assert "accuracy" not in printed + Path("both/report.html").read_text() + Path("both/plan.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data", "song.txt", "--model", "resnet20"], "resnet20 takes no tokens"),
        (["train", "--data", "digits", "--model", "gpt_nano"], "gpt_nano takes tokens"),
        (["train", "--data", "song.txt(context=9999)", "--model", MODEL], "context is 9999, and the training part"),
        (["train", "--data", "song.txt(tokens='words')", "--model", MODEL], "unknown kind of tokens 'words'"),
        (["train", "--data", "song.txt(tokens='bpe')", "--model", MODEL], "as in 'bpe(512)'"),
        (["train", "--data", "song.txt(across_documents='yes')", "--model", MODEL], "expected True or False"),
        (["train", "--data", "song.txt(tokens='bpe(3)')", "--model", MODEL], "the vocabulary of bpe is 3"),
        (["generate", "nowhere"], "'nowhere' is no run"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err
