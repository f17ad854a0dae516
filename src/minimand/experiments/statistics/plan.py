"""The plan of a comparison or a study: what is compared and how it is judged, written before the first training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._support.errors import MinimandError
from ..._support.files import write_whole
from ..._support.plain_yaml import read_yaml, yaml_text
from ..._support.sealed import read_sealed_text, sealed_yaml
from ...recipes import as_config, from_config
from ...training.runs.run import differences

TEST = "paired t test over seeds, each arm against the first, two-sided at 5 %, Holm's correction over the arms"
"""The test by which a comparison is judged, in words."""
EQUALITY_TEST = "equality within the margin by two one-sided paired t tests at 5 %"
"""How it is judged that there is no difference to speak of."""
PLAN = "plan.yaml"
"""The file of a plan in the folder of a comparison or a study."""
_MOST_BYTES = 2**20
_LISTED = 4
"""The differences of two plans that an error lists."""


def keep_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write plan.yaml into a folder, or see that the plan there is the same.

    Raises:
        MinimandError: the plan there is another: what was planned is not changed once there may be results.
    """
    plan = json.loads(json.dumps({"format": "plan 1", "test": TEST, **plan}))
    path = folder / PLAN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, sealed_yaml(yaml_text(plan)))
        return
    if changed := differences(read_plan(folder), plan):
        more = [f"and {len(changed) - _LISTED} differences more"] if len(changed) > _LISTED else []
        raise MinimandError(
            f"{path} was written before the trainings there, and is another plan: "
            f"{'; '.join(changed[:_LISTED] + more)}. Name another folder."
        )


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan in a folder; None where there is none.

    Raises:
        SealError: the plan was changed by hand or is damaged.
    """
    try:
        plan = read_yaml(read_sealed_text(folder / PLAN, _MOST_BYTES))
    except FileNotFoundError:
        return None
    return completed({key: value for key, value in plan.items() if key != "checksum"})


def completed(value: Any) -> Any:
    """Plain values whose recipes have, by default, the fields that recipes have gained since they were written."""
    if isinstance(value, dict):
        is_recipe = value.keys() == {"Recipe"}
        return as_config(from_config(value)) if is_recipe else {key: completed(part) for key, part in value.items()}
    return [completed(part) for part in value] if isinstance(value, list) else value
