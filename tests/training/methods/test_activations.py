"""The activations of frozen layers, when the process that kept them is gone."""

from pathlib import Path

import pytest

import minimand as mm


def test_what_a_killed_process_kept_on_disk_is_deleted_when_the_run_goes_on(tmp_path: Path) -> None:
    model = mm.create_model("resnet20(depth=3, width=4)", in_channels=1)
    recipe = mm.Recipe(1, 64, mm.SGD(0.05))
    method = mm.Layerwise(auxiliary="linear", cache="disk")
    left = tmp_path / "run" / "activations-left"

    def kill(event: object) -> None:
        if type(event).__name__ == "EpochDone":
            left.mkdir()
            (left / "0-0").write_bytes(bytes(8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mm.fit(model, "digits", method=method, recipe=recipe, run=tmp_path / "run", callbacks=[kill])
    assert left.is_dir()
    assert len(mm.fit(model, "digits", method=method, recipe=recipe, run=tmp_path / "run").history) == 3
    assert not list((tmp_path / "run").glob("activations-*"))
