import re
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

# Derandomized: the same examples on every machine; timing is no matter of these tests.
settings.register_profile("minimand", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("minimand")

# The tests run side by side, one on each core.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Where the figures of a run's page are looked at. Elsewhere they are composed and not rendered, which takes most of the
# time of a small training; figures of all other pages are rendered wherever they are written.
_RENDERED = {"report", "test_kinds_of_run.py"}


def _not_rendered(figure: Any) -> str:
    return "<svg/>"


@pytest.fixture(scope="module", autouse=True)
def _unrendered(request: pytest.FixtureRequest) -> Iterator[None]:
    fit = import_module("minimand.training.fit")  # the package has a function of this name
    write_report = fit.write_report

    def write(result: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("minimand.report.page.svg", _not_rendered)
            return write_report(result)

    with pytest.MonkeyPatch.context() as patch:
        if _RENDERED.isdisjoint(request.path.parts):
            patch.setattr(fit, "write_report", write)
        yield


@pytest.fixture
def shared() -> Path:
    """The folder of data beside the checkout."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with the data sets")
    return folder


# What `pip install minimand` alone does not bring, by the names that are imported.
_OPTIONAL = ("PEPit", "PIL", "curvlinops", "datasets", "importlinter", "matplotlib", "mkdocs", "onnx", "onnxruntime")
_OPTIONAL += ("onnxscript", "optuna", "pandas", "pyarrow", "timm", "torchvision", "transformers")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that fails for want of an optional package, where minimand is installed alone."""
    report = yield
    missing = call.excinfo and _missing(call.excinfo.value, report)
    if report.failed and missing:
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, line or 0, f"Skipped: {missing} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip the tests of a file that imports an optional package which is missing."""
    report = yield
    missing = _missing(None, report)
    if report.failed and missing:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: {missing} is not installed")
    return report


def _missing(error: BaseException | None, report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """The optional package whose absence a test failed for, as an exception or in the output of a command says."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) in _OPTIONAL:
            return name
        error = error.__cause__ or error.__context__
    text = "".join([report.longreprtext, *(text for _, text in report.sections)])
    words = re.search(r"(\w+)[\w.]* is needed [\w\s]+ and is\s+not installed|No module named '(\w+)", text)
    name = words and (words.group(1) or words.group(2))
    return name if name in _OPTIONAL else None
