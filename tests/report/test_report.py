import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand._support.torch.flops import FlopCounter
from minimand.blocks.attention import Attention
from minimand.data import as_data
from minimand.experiments.reopen import used_by
from minimand.experiments.study import STUDIES
from minimand.report.page import Figures, _certificate_svg
from minimand.report.size import count_flops
from minimand.trainability.initialization.scheme import SCHEMES
from minimand.training.methods._registry import METHODS

RECIPE = mm.Recipe(epochs=2, batch_size=20)


def _fit(folder: Path, model: nn.Module | None = None, data: Any = None) -> mm.training.FitResult:
    torch.manual_seed(0)
    default = mm.create_model("mlp", "heavy_ball(momentum=Learnable(0.5, 0, 1))", in_channels=2, num_classes=2)
    return mm.fit(model or default, data or mm.load_data("nested_rings", samples=60), recipe=RECIPE, run=str(folder))


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_of_a_run_is_whole_and_self_contained(tmp_path: Path) -> None:
    result = _fit(tmp_path / "run")
    assert result.run is not None
    page = _Page(result.run.report.read_text())
    assert not page.open
    assert len(page.sources) == 4  # curves, certificate, coefficients, confusion
    for source in page.sources:
        assert source.startswith("data:image/svg+xml;base64,")
        assert b"<svg" in base64.b64decode(source.partition(",")[2])
    for words in (
        "HeavyBall(step_size=1.0, momentum=Learnable(0.5, low=0, high=1)) on nested_rings",
        "test accuracy",
        "zero-stable",
        "momentum by layer",
        "with momentum 0 it would be GradientDescent",
        "polyak1964heavyball",
        "batch_size: 20",
        f"{sum(p.numel() for p in result.model.parameters()):,}",
    ):
        assert words in page.text


def test_what_a_caller_named_is_escaped(tmp_path: Path) -> None:
    x = torch.randn(20, 2)
    part = (x, (x[:, 0] > 0).long())
    data = mm.data.as_data((part, part))
    named = mm.Data("<script>alert(1)</script>", data.train, data.test, data.shape, classes=("<b>", "&"))
    result = _fit(tmp_path / "run", data=named)
    assert result.run is not None
    text = result.run.report.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


ODD_NAMES = ("$\\frac{$", "$$", "a\udcffb", '<b>&"', "{{x}}", "\\", "\u65e5\u672c", "a\nb", "x" * 300, "plain")


def test_classes_of_any_name_are_drawn_and_told(tmp_path: Path) -> None:
    inputs, targets = torch.randn(40, 2), torch.arange(40) % len(ODD_NAMES)
    data = replace(as_data(((inputs, targets), (inputs, targets))), classes=ODD_NAMES)
    result = _fit(tmp_path / "run", nn.Linear(2, len(ODD_NAMES)), data)
    assert result.run is not None
    page = result.run.report.read_text(encoding="utf-8")
    assert page.count("<img") == 2
    again = _fit(tmp_path / "run", nn.Linear(2, len(ODD_NAMES)), data)
    assert again.test_loss == result.test_loss


def test_a_model_of_one_s_own_has_a_page_too(tmp_path: Path) -> None:
    result = _fit(tmp_path / "run", nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert result.run is not None
    page = _Page(result.run.report.read_text())
    assert "a model of your own" in page.text
    assert "Certificate" not in page.text


def test_without_matplotlib_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minimand._support.extras as extras

    def missing(package: str) -> Any:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(extras, "import_module", missing)
    _certificate_svg.cache_clear()  # drawn by another test
    result = _fit(tmp_path / "run")
    assert result.run is not None
    page = _Page(result.run.report.read_text())
    assert not page.sources
    assert "pip install 'minimand[plots]'" in page.text


def test_a_certificate_is_drawn_once_and_another_one_that_reads_the_same_too(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[mm.theory.Certificate] = []
    monkeypatch.setattr(mm.theory.Certificate, "plot", lambda certificate: drawn.append(certificate))
    monkeypatch.setattr("minimand.report.page.svg", lambda figure: f"<svg>{len(drawn)}</svg>")

    def embedded(last: float) -> str | None:
        momentum = mm.algorithms.HeavyBall(momentum=lambda k: last if k == 4 else 0.5)
        return Figures().embed_certificate(mm.certify(momentum, depth=5))

    first = embedded(0.5)
    assert embedded(0.5) == first
    assert len(drawn) == 1
    other = embedded(0.25)
    assert other != first
    assert [certificate.title for certificate in drawn] == [drawn[0].title] * 2


def test_explain_says_what_a_model_is() -> None:
    model = mm.create_model("resnet20", "nesterov_y(momentum=0.9)", "residual", width=4)
    text = str(mm.explain(model))
    for words in (
        "runs NesterovY(step_size=1.0, momentum=0.9) in 3 stages of 3, 2, 2 layers and 2 transitions",
        "gradient(x) = -T(x), so gradient descent is x + T(x)",
        "with momentum 0 it would be GradientDescent(step_size=1.0): x + T(x), ResNet",
        "zero-stable",
        "the block is convolutional",
    ):
        assert words in text
    assert "momentum by layer" not in text
    with pytest.raises(
        TypeError, match="model is Linear, in which no algorithm runs; expected a model of mm.create_model"
    ):
        mm.explain(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_explain_a_stage_of_one_s_own_blocks() -> None:
    blocks = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(3)]
    stage = mm.unroll("heavy_ball(momentum=Learnable(0.5, 0, 1))", blocks)
    explanation = mm.explain(stage)
    assert explanation.title == "a single stage"
    assert explanation.lines[0] == f"{3 * (4 * 8 + 8 + 8 * 4 + 4) + 3} parameters"
    assert explanation.lines[1].endswith("in 1 stage of 3 layers")
    assert "momentum by layer: 0.500 0.500 0.500" in explanation.lines
    assert explanation.certificate.gains == pytest.approx((1.75, 1.5, 1.0))
    assert "with momentum 0 it would be GradientDescent(step_size=1.0): x + T(x), ResNet" in explanation.lines


def test_explain_certifies_the_values_that_were_learned() -> None:
    model = mm.create_model("mlp", mm.algorithms.HeavyBall(momentum=mm.Learnable(0.5, 0, 1)), in_channels=2, depth=3)
    with torch.no_grad():
        model.stages[0].coefficients["momentum"].copy_(torch.tensor([0.0, 0.25, 0.75]))
    explanation = mm.explain(model)
    # x_3 = x_0 + (1 + m1 + m1 m2) T_0 + (1 + m2) T_1 + T_2
    assert explanation.certificate.gains == pytest.approx((1 + 0.25 + 0.25 * 0.75, 1.75, 1.0))
    assert "momentum by layer: 0.000 0.250 0.750" in explanation.lines


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(5, 7), (5,), 2 * 5 * 7),
        (nn.Conv2d(3, 4, 3, padding=1, bias=False), (3, 6, 6), 2 * 3 * 4 * 9 * 36),
        (nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2)), (5,), 2 * 5 * 2),
    ],
)
def test_flops_count_two_for_a_multiplication_with_its_addition(model: nn.Module, shape: tuple, expected: int) -> None:
    assert count_flops(model, shape) == expected
    assert model.training


@pytest.mark.parametrize("groups", [4, 2])
def test_flops_count_the_products_of_fused_attention_on_a_cpu_too(groups: int) -> None:
    width, tokens, heads = 16, 10, 4
    model = Attention(width, heads, key_value_heads=groups, causal=True)
    linear = width * (width + 2 * width * groups // heads) + width * width
    product = 2 * tokens * tokens * width  # of queries with keys, and as much of weights with values
    assert count_flops(model, (tokens, width)) == 2 * tokens * linear + 2 * product
    q, k, v = (torch.randn(1, heads, tokens, width // heads, requires_grad=True) for _ in range(3))
    with FlopCounter() as counter:
        nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    assert counter.get_total_flops() == 7 * product  # backward the weights again, and four more


def test_flops_are_those_of_any_precision_and_of_every_call() -> None:
    """The first call of an equilibrium asks its block a few times more, to see whether it is a function."""
    assert count_flops(nn.Linear(5, 7).double(), (5,)) == 2 * 5 * 7
    model = nn.Sequential(nn.Linear(4, 8), mm.Equilibrium(nn.Sequential(nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 3))
    assert count_flops(model, (4,)) == count_flops(model, (4,))


def test_a_model_that_does_not_run_has_no_flops() -> None:
    assert count_flops(nn.Linear(5, 7), (4,)) is None


def test_citations_are_those_of_what_was_used(capsys: pytest.CaptureFixture) -> None:
    model = mm.create_model("wrn16_4", "momentum_residual")
    keys = re.findall(r"@\w+\{(\w+),", mm.bibliography(model, mm.Backpropagation(), "cifar10", "momentum_residual"))
    assert keys == [
        "zagoruyko2016wide", "sander2021momentum", "polyak1964heavyball", "rumelhart1986", "krizhevsky2009cifar",
    ]  # fmt: skip
    assert "belilovsky2020decoupled" in mm.bibliography("decoupled")
    assert "li2018optimization" in mm.bibliography("simulation")
    mm.cite("heavy_ball")
    assert "@article{polyak1964heavyball" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Did you mean 'heavy_ball'"):
        mm.cite("heavyball")
    with pytest.raises(TypeError, match="int has no references"):
        mm.cite(3)


def test_scaling_rules_memory_equilibria_and_optimizers_are_cited(tmp_path: Path) -> None:
    """By the objects, and by the folder of a run that used them."""
    settings: Any = {"in_channels": 2, "num_classes": 2, "parametrization": "complete_p", "memory": "reversible"}
    model = mm.create_model("mlp(depth=2)", "leapfrog", **settings)
    recipe = mm.Recipe(epochs=1, optimizer="muon")
    mm.fit(model, "nested_rings(samples=50)", recipe=recipe, run=tmp_path / "run")
    layer = mm.Equilibrium(nn.Linear(2, 2))
    keys = ("dey2025completep", "maclaurin2015reversible", "jordan2024muon")
    for text in (mm.bibliography(model, recipe), mm.bibliography(*used_by(tmp_path / "run"))):
        assert all(f"{{{key}," in text for key in keys)
    assert "{bai2019deq," in mm.bibliography(nn.Sequential(layer))


def test_every_reference_is_in_the_bibliography() -> None:
    names = [*mm.algorithms.ALGORITHMS, *mm.list_models(), *mm.list_data(), *METHODS, *SCHEMES, *STUDIES]
    text = mm.bibliography(*names)
    assert text.count("@") == len(set(re.findall(r"@\w+\{(\w+),", text)))
    for entry in text.split("\n\n"):
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+)\s*=", entry, re.M))


def test_a_rewired_model_says_what_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(3)])
    mm.rewire(model, "heavy_ball(momentum=Learnable(0.3, 0, 0.8))")
    explained = str(mm.explain(model))
    assert "0 ... 2  (3 blocks) by HeavyBall" in explained
    assert "3 layers, operator binding" in explained
    assert "polyak1964heavyball" in mm.bibliography(model)
    result = mm.fit(model, "nested_rings", recipe=mm.Recipe(epochs=1), run=tmp_path / "run")
    assert result.run is not None
    assert result.run.config()["rewired"] == [
        "0 1 2: HeavyBall(step_size=1.0, momentum=Learnable(0.3, low=0, high=0.8))"
    ]
    page = result.run.report.read_text()
    assert "0 ... 2  (3 blocks) by HeavyBall" in page
    assert "Polyak" in page


def _contrast(a: str, b: str) -> float:
    """The contrast ratio of two colors, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_pages_can_be_read_in_light_and_dark(scheme: str) -> None:
    from minimand._support.style import PALETTE

    colors = PALETTE[scheme]
    for text in ("ink", "faint", "link"):
        for background in ("page", "code"):
            assert _contrast(colors[text], colors[background]) >= 4.5


def test_pages_have_colors_of_the_palette_only_and_figures_no_background(tmp_path: Path) -> None:
    from importlib.resources import files

    for template in (files("minimand.report") / "templates").iterdir():
        if template.name.endswith(".html"):
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?=[;\s}])", template.read_text())
    model = mm.create_model("mlp(width=4)", in_channels=2, num_classes=2)
    mm.fit(model, "nested_rings", recipe=mm.Recipe(epochs=1), run=tmp_path / "run", progress=False)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "prefers-color-scheme: dark" in page
    assert page.count('class="plot"') >= 2


def test_what_is_said_of_coefficients_of_channels_is_said_of_their_mean() -> None:
    algorithm = mm.algorithms.HeavyBall(momentum=mm.Learnable(0.5, 0, 1, channels=4))
    model = mm.create_model("mlp(width=4, depth=2)", algorithm, in_channels=3, num_classes=2)
    with torch.no_grad():
        model.stages[0].coefficients["momentum"].copy_(torch.tensor([0.0, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4]))
    text = str(mm.explain(model))
    assert "momentum by layer, the mean of its channels: 0.600 0.400" in text
    assert "of momentum the mean is read; each channel runs with a value of its own" in text
    assert "mean" not in str(mm.explain(mm.create_model("mlp(width=4, depth=2)", "heavy_ball", in_channels=3)))
