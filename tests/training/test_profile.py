import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.training.loop.events import Event, Finished, Started
from minimand.training.loop.profile import PARTS
from minimand.training.methods._registry import METHODS
from minimand.training.methods.method import Method

RECIPE = mm.Recipe(epochs=2, batch_size=40, augmentation=None)


def _model(method: str = "backpropagation") -> nn.Module:
    torch.manual_seed(0)
    steps: dict[str, Any] = {"activation": "sign"} if "target" in method else {}
    return mm.create_model("mlp", "heavy_ball", num_classes=2, in_channels=2, width=8, depth=3, **steps)


@pytest.mark.parametrize("method", METHODS)
def test_the_parts_of_a_profile_are_all_the_time_that_passed_and_weights_are_those_without_it(method: str) -> None:
    data = mm.load_data("nested_rings", samples=200)
    times: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Started | Finished):
            times.append(time.perf_counter())

    profiled, plain = _model(method), _model(method)
    began = time.perf_counter()
    result = mm.fit(profiled, data, method=method, recipe=RECIPE, callbacks=[note], profile=True, progress=False)
    ended = time.perf_counter()
    profile = result.profile
    assert profile is not None
    assert set(profile.seconds) <= set(PARTS)
    assert times[1] - times[0] <= profile.total <= ended - began
    assert profile.steps == result.history[-1]["step"]
    assert all(
        profile.seconds[part] > 0 for part in ("data", "forward", "backward", "optimizer", "hooks", "evaluation")
    )
    assert profile.note == ""
    assert mm.fit(plain, data, method=method, recipe=RECIPE, progress=False).profile is None
    assert all(map(torch.equal, profiled.state_dict().values(), plain.state_dict().values()))


class ByHand(Method):
    """Backpropagation that fills gradients by itself."""

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss) -> tuple[Tensor, Tensor]:
        outputs = model(x)
        value = loss(outputs, y)
        value.backward()
        return value.detach(), outputs.detach()


def test_a_method_that_is_not_split_is_told_of() -> None:
    data = mm.load_data("nested_rings", samples=100)
    result = mm.fit(_model(), data, method=ByHand(), recipe=RECIPE, profile=True, progress=False)
    assert "ByHand does not use `descend`" in str(result.profile)


def test_the_report_keeps_the_table_and_a_run_that_goes_on_counts_its_own_steps(tmp_path: Path) -> None:
    data = mm.load_data("nested_rings", samples=200)

    def stop(event: Event) -> None:
        if getattr(event, "step", 0) == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"recipe": RECIPE, "run": tmp_path / "run", "progress": False, "checkpoint_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        mm.fit(_model(), data, callbacks=[stop], **options)
    result = mm.fit(_model(), data, profile=True, **options)
    assert result.profile is not None
    assert result.profile.steps == result.history[-1]["step"] - 2
    assert result.profile.seconds["checkpoint"] > 0
    assert result.run is not None
    page = result.run.report.read_text()
    assert "Where the time went" in page
    assert result.profile.rows()[-1][1] in page


def test_profile_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="profile is 'yes'; expected True or False"):
        mm.fit(_model(), "nested_rings", profile="yes")  # pyright: ignore[reportArgumentType]
