"""Each study, by one sweep; and what some of them measure."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand._support.plain_yaml import read_yaml
from minimand.algorithms import as_algorithm
from minimand.data.samples import Arrays
from minimand.data.sets.nested_rings import nested_rings
from minimand.experiments import DecisiveStudy, StudyResult, trained
from minimand.experiments.running import read_study, run_study
from minimand.experiments.statistics.plan import keep_plan
from minimand.experiments.study import SCALES, STUDIES, Bench
from minimand.models.registry import create_for
from minimand.recipes.recipe import from_config
from minimand.studies.depth import explosion, initialization, no_normalization, regularization, trainable_depth
from minimand.studies.skeletons import rings
from sweeps import thin

# Studies of many networks, which take ten seconds at smoke scale.
_LONG = (
    "apg2",
    "gallery",
    "implicit",
    "initialization",
    "local_learning",
    "mazes",
    "optdnn",
    "optdnn_dense",
    "record",
    "rewired",
    "skeletons_cifar10",
    "skeletons_resnet",
    "splittings_gpt",
    "telgarsky_decided",
    "thresholds_decided",
    "transfer",
)
# Measured from two seeds: beside other work that took most of the machine, or half an hour each at the most epochs.
_TWO_SEEDS = {"transfer": 90, "record": 150}
"""The minutes that all measurements take at the most."""
ROOT = Path(__file__).parents[2]
FACTS = ROOT.parent / "shared" / "facts" / "architectures.md"


def test_every_file_of_the_folder_holds_a_study() -> None:
    files = {path.stem for path in Path(mm.studies.__file__).parent.rglob("[!_]*.py")}
    assert {study.cells.__module__.rpartition(".")[2] for study in STUDIES.values()} == files
    assert all(name == study.name for name, study in STUDIES.items())


@pytest.mark.parametrize("name", thin(STUDIES, [name for name in STUDIES if name not in _LONG]))
def test_a_study_runs(name: str, tmp_path: Path) -> None:
    """At smoke scale: a row for every cell, with a value in every column."""
    result = run_study(name, "smoke", run=tmp_path)
    assert len(result.rows()) == len(result.study.cells_at("smoke"))
    assert all(cell for row in result.rows() for cell in row[:-1])
    for caption, figure in result.figures().items():
        assert caption
        assert any(axes.has_data() for axes in figure.axes)


@pytest.mark.parametrize("name", STUDIES)
def test_the_cells_of_a_study(name: str) -> None:
    """At every scale they are plain, differ in what the table shows, and name models and recipes that exist."""
    study = STUDIES.named(name)
    for scale in SCALES:
        cells = study.cells_at(scale)
        assert json.loads(json.dumps(cells)) == cells
        assert len({tuple(str(cell[label]) for label in study.labels) for cell in cells}) == len(cells)
        for cell in cells:
            if "recipe" in cell:
                assert isinstance(from_config(cell["recipe"]), mm.Recipe)
            if "algorithm" in cell:
                as_algorithm(cell["algorithm"])
        for model in {cell["model"] for cell in cells if "model" in cell and name != "rewired"}:
            with torch.device("meta"):
                is_text = model.startswith("gpt")
                shape = (64,) if is_text or model.startswith("mlp") else (3, 32, 32)
                assert create_for(model, shape, 10, tokens=is_text)


@pytest.mark.parametrize("name", STUDIES)
def test_the_results_in_the_repository_are_those_of_the_study(name: str) -> None:
    """Whoever changes a study measures it again."""
    study, folder = STUDIES.named(name), ROOT / "results" / "studies" / f"{name}-cpu"
    assert f"{{{{ study_{name} }}}}" in (ROOT / "docs" / "results" / "studies.md").read_text()
    if isinstance(study, DecisiveStudy):  # hours: what there is of it is held to the study
        if folder.is_dir():
            assert _is_as_planned(read_study(name, "cpu", folder))
        return
    result = read_study(name, "cpu", folder)
    assert len(result.rows()) == len(study.cells_at("cpu"))
    seeds = {0, 1} if name in _TWO_SEEDS else {0, 1, 2}
    assert {m.seed for m in result.measurements} >= seeds
    assert len(result.measurements) >= len(seeds) * len(study.cells_at("cpu"))
    # Half an hour on two cores where nothing else is said.
    assert sum(m.seconds for m in result.measurements) < 60 * _TWO_SEEDS.get(name, 45)


def _is_as_planned(result: StudyResult) -> bool:
    """Whether the plan beside the results of a decisive study is the one that it has now, and nothing else is there."""
    folder = ROOT / "results" / "studies" / f"{result.study.name}-{result.scale}"
    plan = read_yaml((folder / "plan.yaml").read_text())
    keep_plan(folder, cast(Any, result.study.plan("cpu", len(plan["seeds"]))))
    return len(result.measurements) == len(json.loads((folder / "results.json").read_text())["measurements"])


@pytest.mark.skipif(not FACTS.is_file(), reason="the published numbers are not there")
@pytest.mark.parametrize("name", ["simulation", "hb_agd"])
def test_published_numbers_are_as_published(name: str) -> None:
    study, text = STUDIES.named(name), FACTS.read_text()
    assert study.published is not None
    published = [study.published(cell) for cell in study.cells_at("paper")]
    facts = {float(n) for n in re.findall(r"\d+\.?\d*", text)}
    assert published
    assert set(map(float, published)) <= facts


class _Circle(nn.Module):
    """Takes what is farther than `radius` from 0 for the outer ring."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(radius))

    def forward(self, x: Tensor) -> Tensor:
        gap = x.norm(dim=1) - self.radius
        return torch.stack([-gap, gap], 1)


def test_the_margin_of_a_circle_is_its_distance_from_the_samples() -> None:
    samples = nested_rings(500, 0).test
    assert isinstance(samples, mm.data.Arrays)
    distance = (samples.inputs.norm(dim=1) - 2.5).abs().min()
    margin = rings._margin(_Circle(2.5), samples.inputs, samples.targets)
    assert margin == pytest.approx(float(distance), abs=8 / 400)  # the grid's spacing
    assert rings._margin(_Circle(2.0), samples.inputs, samples.targets) == 0


@pytest.mark.parametrize("layers", [7, 10])
def test_gradient_descent_of_the_chain(layers: int) -> None:
    """One start and one step at a time, in plain numbers."""

    def needed(w: float, step: float) -> float:
        for iteration in range(1000):
            if (w**layers - 1) ** 2 < 1e-3:
                return iteration
            w -= step * 2 * layers * (w**layers - 1) * w ** (layers - 1)
            if abs(w) > 2:
                break
        return math.inf

    steps = [0.95**i / layers**2 for i in range(1, 100)]
    best = min(max(needed(0.9 + 0.01 * i, step) for i in range(21)) for step in steps)
    assert explosion._iterations(layers) == best
    assert explosion._slope(0.8, layers) == pytest.approx(2 * layers * (0.8**layers - 1) * 0.8 ** (layers - 1))


@pytest.mark.soak
def test_networks_of_the_initialization_study_are_equally_deep() -> None:
    data = mm.load_data("digits")
    for cell in STUDIES.named("initialization").cells_at("smoke"):
        model = initialization._network(cell, 0, data)
        assert sum(isinstance(m, nn.Linear) for m in model.modules()) == cell["depth"]
        assert model(torch.zeros(2, *data.shape)).shape == (2, 10)


def test_the_line_of_trainable_depth_is_the_shorter_scale() -> None:
    """Angles and gradients shrink alike below the critical point; above it gradients grow faster than angles settle."""
    assert trainable_depth._reach("tanh", math.sqrt(1.3)) == pytest.approx(6 * 7.8341, rel=1e-4)
    assert trainable_depth._reach("tanh", math.sqrt(2)) == pytest.approx(6 / math.log(1.047666), rel=1e-4)
    for variance in (1.5, 2.5):
        reach = trainable_depth._reach("ReLU", math.sqrt(variance))
        assert reach == pytest.approx(6 / abs(math.log(variance / 2)))


def test_a_measurement_is_what_fit_gives(tmp_path: Path) -> None:
    """The last cell of a study, trained by hand."""
    study = STUDIES.named("gallery")
    cell, data = study.cells_at("smoke")[-1], mm.load_data("digits")
    values = study.measure(cell, 0, Bench(tmp_path, None, torch.device("cpu"), lambda label: ()))
    first = mm.data.Arrays(data.train.inputs[:100], data.train.targets[:100])  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    model = create_for(cell["model"], data.shape, data.num_outputs, cell["algorithm"])
    mm.fit(model, replace(data, train=first), recipe=from_config(cell["recipe"]), seed=0)
    evaluation = mm.evaluate(model, data)
    assert evaluation.accuracy is not None
    assert values["error"] == pytest.approx(1 - evaluation.accuracy)
    assert values["loss"] == pytest.approx(evaluation.loss, rel=1e-4)


def test_attacked_images_are_as_far_as_said_and_worse() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)), torch.randn(40, 6), torch.arange(40) % 3
    moved = regularization.attacked(model, x, y, 0.1)
    torch.testing.assert_close((moved - x).abs(), torch.full_like(x, 0.1))
    loss = nn.functional.cross_entropy
    assert loss(model(moved), y) > loss(model(x), y)
    assert all(p.grad is None for p in model.parameters())


def test_pre_training_keeps_more_of_the_images() -> None:
    """What a linear map can restore of the images from the last hidden layer, by least squares."""
    torch.manual_seed(0)
    data = mm.load_data("digits")
    images = data.prepare(cast(Arrays, data.train).inputs)

    def lost(model: nn.Sequential) -> float:
        hidden = torch.cat([model[:-1](images).detach(), torch.ones(len(images), 1)], 1)
        x = images.flatten(1)
        return float((hidden @ torch.linalg.lstsq(hidden, x).solution - x).square().mean())

    model = trained.plain_network(12, 5, nn.Tanh, data)
    last = cast(nn.Linear, model[-1]).weight.detach().clone()
    before = lost(model)
    regularization.pretrain(model, images.repeat(6, 1, 1, 1), rate=5e-3)
    assert lost(model) < 0.95 * before
    assert torch.equal(cast(nn.Linear, model[-1]).weight, last)


def test_without_skips_nothing_passes_a_dead_branch() -> None:
    data = mm.load_data("digits")
    x = data.prepare(cast(Arrays, data.train).inputs[:8])
    for cell in STUDIES.named("no_normalization").cells_at("smoke"):
        model = cast(Any, no_normalization._network(cell, 0, data))[1]
        with torch.no_grad():
            for p in model.layers[0].parameters():
                p.zero_()
        passed = bool((model.stages[0](model.stem.module(x)) != 0).any())
        assert passed is (cell["network"] != "no skips")
