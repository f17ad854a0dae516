"""What the README and the pages show is what happens."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import minimand as mm
from minimand.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def test_the_example_of_the_readme_prints_what_it_says(capsys: pytest.CaptureFixture) -> None:
    text = (ROOT / "README.md").read_text()
    example = _blocks(text.partition("<!-- example -->")[2], "python")[0]
    shown = _blocks(text.partition("<!-- output -->")[2], "text")[0].splitlines()
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out.splitlines()
    assert printed[:-1] == shown[:-1]
    # The last digits of training are the machine's own.
    accuracy = re.match(r"test accuracy ([0-9.]+) %, test loss", printed[-1])
    assert accuracy is not None
    assert float(accuracy.group(1)) > 99
    assert printed[-1].partition(" after ")[2] == shown[-1].partition(" after ")[2]


def test_the_readme_is_short_and_leads_to_what_there_is() -> None:
    """Its links are files of the repository, and its commands are commands with those options."""
    import minimand as mm

    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
        assert (ROOT / target).exists(), target
    for command in re.findall(r"`minimand (\w+)", text):
        assert command in mm.list_commands(), command
    for target in re.findall(r"\$ make (\w+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "tutorial"}
    for block in _blocks((DOCS / "tutorial.md").read_text(), "python"):
        exec(compile(block, "tutorial.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "is the same network as Nesterov(step_size=1.0, momentum=0.6)" in printed
    assert (tmp_path / "runs" / "look-ahead" / "report.html").is_file()
    assert names["result"].test_accuracy > 0.7


# The commands that pages of Extend bring.
OF_A_PAGE = ("parameters",)

# What each page prints, as a pattern; pages with blocks of text below have to print these too.
PRINTED = {
    "experiments/compare": r"GradientDescent(.|\n)*HeavyBall(.|\n)*seeds 0, 1",
    "training/data": "",
    "training/memory": "True",
    "training/decoupled": r"test accuracy \d",
    "models/implicit": r"100 converged(.|\n)*implicit +\S+ +1\.0000(.|\n)*monotone for all weights(.|\n)*5 converged",
    "index": r"zero-stable +yes(.|\n)*test accuracy 9",
    "trainability/initialize": r"7 branches, each times 0\.2173",
    "models/language": r"12 1",
    "models/create": r"resnet50\(depth=19, width=70\) 258",
    "models/implicit_steps": r"ADMM\(.* is the same network as Doug(.|\n)*A-stable(.|\n)*81\n"
    r"(.|\n)*converged=32, diverged=0",
    "trainability/normalize": "",
    "trained/predict": r"'0', '1'(.|\n)*sample +class(.|\n)*Linear",
    "training/processes": "",
    "training/recipes": r"test accuracy \d+(.|\n)*\d+\.\d+ 0\.\d+",
    "models/rewire": r"rewired_momentum",
    "trainability/scaling": r"over depth: slope [-+]0\.0\d, flat(.|\n)*True",
    "training/text": r"song(.|\n)*bottles",
    "understand/theory": "",
    "understand/universality": "",
    "training/train": r"0\.9\d+",
    "trainability/diagnose": r"vanishing (.|\n)*mm.initialize\(model, \"critical\", batch=x\), "
    r"then train with mm.Adam\(0\.0004\)\nok: ",
}


@pytest.mark.parametrize("page", PRINTED)
def test_the_blocks_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """In order, in one session; but for those that read a folder or the hub."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text()
    names: dict = {"__name__": page}
    for block in _blocks(text, "python"):
        if "path/to" not in block:
            exec(compile(block, f"{page}.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(PRINTED[page], printed), printed
    for shown in _blocks(text, "text"):
        if "--8<--" not in shown:
            assert shown in printed
    if page in ("index", "training/train"):
        assert list(tmp_path.glob("runs/*/report.html"))
        assert names["mm"].evaluate(names["model"], "digits").accuracy > 0.9


def test_every_page_is_in_the_navigation_and_is_run() -> None:
    """A page of a task with code in it is run here."""
    navigation = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(navigation) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    by_name = Path(__file__).read_text()
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS).with_suffix(""))
        if not name.startswith(("api/", "extend/")) and _blocks(page.read_text(), "python"):
            assert name in PRINTED or f'"{page.name}"' in by_name, name


def test_the_page_on_layerwise_training_says_what_happens(capsys: pytest.CaptureFixture) -> None:
    names: dict = {"__name__": "layerwise"}
    for block in _blocks((DOCS / "training" / "layerwise.md").read_text(), "python"):
        exec(compile(block, "layerwise.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    accuracies = [float(percent) for line in lines for percent in re.findall(r"test accuracy ([0-9.]+) %", line)]
    assert len(accuracies) == 3
    assert min(accuracies) > 85
    together = re.search(r"all classifiers together: ([0-9.]+) %", lines[0])
    assert together is not None
    assert float(together.group(1)) == pytest.approx(100 * float(lines[1]), abs=1)  # half precision, or not


def test_the_page_on_thresholds_says_what_happens(capsys: pytest.CaptureFixture) -> None:
    text = (DOCS / "training" / "thresholds.md").read_text()
    names: dict = {"__name__": "thresholds"}
    for block in _blocks(text, "python"):
        exec(compile(block, "thresholds.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "thresholds in the place of 3 activations" in printed
    assert names["result"].test_accuracy > 0.95
    for shown in _blocks(text, "text"):
        assert shown in printed


def test_the_page_on_packing_says_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks((DOCS / "trained" / "packing.md").read_text(), "python")
    exec(compile(block, "packing.md", "exec"), {"__name__": "packing"})
    printed = capsys.readouterr().out
    assert "of 1 bit: bits to bits" in printed
    hardened, packed = map(float, printed.split()[-2:])
    assert hardened == packed > 0.6


def test_the_pages_name_only_what_there_is() -> None:
    """Names in the text exist."""
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for name in re.findall(r"\bmm\.(\w+)", page.read_text()):
            assert hasattr(mm, name), (page.name, name)


def test_the_pages_show_only_commands_and_options_that_there_are(capsys: pytest.CaptureFixture) -> None:
    helps: dict[tuple[str, ...], str] = {}
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for block in _blocks(page.read_text(), "console"):
            for line in block.replace("\\\n", " ").replace(" && ", "\n").splitlines():
                words = shlex.split(line, comments=True)
                words = words[words.index("minimand") + 1 :] if "minimand" in words else []
                if not words or words[0] in OF_A_PAGE or words[0] == "COMMAND":
                    continue
                command = tuple(words[: 2 if words[0] == "study" else 1])
                if command not in helps:
                    with pytest.raises(SystemExit) as ended:
                        main([*command, "--help"])
                    helps[command] = capsys.readouterr().out
                    assert ended.value.code == 0, (page.name, command)
                for option in (word for word in words if re.match("-[-a-z]", word)):
                    assert re.search(rf"(^|[\s,]){option}\b", helps[command]), (page.name, line, option)


def test_the_page_on_probes_says_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # the page's network draws its own weights
    names: dict = {"__name__": "probes"}
    for block in _blocks((DOCS / "trained" / "probes.md").read_text(), "python"):
        exec(compile(block, "probes.md", "exec"), names)
    assert "linear probes" in capsys.readouterr().out
    accuracies = [names["mm"].evaluate(names[name], "digits").accuracy for name in ("net", "other")]
    assert accuracies[0] == accuracies[1] == names["compressed"].test_accuracy > 0.9
