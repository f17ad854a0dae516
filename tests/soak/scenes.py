"""Commands whose end must be the same however often they are broken off, and what their folders say at the end."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMES = {"checksum", "seconds", "date", "environment", "datetime", "speed"}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SMALL = ("--data", "digits", "--quiet", "--batch-size", "256")
_MLP = ("--model", "mlp(depth=2,width=8)")


@dataclass(frozen=True)
class Scene:
    """A command that works in a folder, and commands that come before it and are not disturbed."""

    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    """Commands whose output counts as a result."""
    share: float = 1.0
    """The share of faults that it gets: less where it takes long."""


def scenes() -> dict[str, Scene]:
    """A scene for each method of training, and for every other command that writes."""
    import minimand as mm

    # Every step a checkpoint: what is written while nothing is kept is not worth a kill.
    train = ("train", *_SMALL, "--epochs", "2", "--checkpoint-every", "0", "--run", "run")
    trained = (*train, "--model", 'mlp(depth=2,width=8,activation="sign")', "--weight-bits", "1")
    once = (*_SMALL, *_MLP, "--epochs", "1", "--run", "run")
    methods = {f"train {name}": Scene((*train, *_model_for(name), "--method", name)) for name in mm.list_methods()}
    return methods | {
        "compare": Scene(("compare", *once, "--seeds", "1", "--algorithm", "gradient_descent", "nesterov")),
        "search": Scene(("search", *once, "--trials", "4", "--seeds", "1"), share=0.5),
        "study": Scene(("study", "run", "rings", "--scale", "smoke", "--run", "run", "--quiet")),
        "study of runs": Scene(("study", "run", "separability", "--scale", "smoke", "--run", "run", "--quiet")),
        "pack": Scene(
            ("pack", "run", "--output", "packed.mm"), (trained,), (("evaluate", "packed.mm", "--data", "digits"),)
        ),
    }


def _model_for(method: str) -> tuple[str, ...]:
    if method in ("target_propagation", "feasible_target_propagation"):
        return "--model", 'mlp(depth=2,width=8,activation="sign")'
    return _MLP


def results(folder: Path) -> dict[str, Any]:
    """What the files below a folder say, without times: JSON, text, the weights of every run, and their names."""
    from minimand.training import Run

    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".safetensors"}
    said: dict[str, Any] = {"files": sorted(names)}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            said[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            said[name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".py":
            said[name] = hashlib.sha256(_DATE.sub("", path.read_text()).encode()).hexdigest()
        elif path.suffix == ".mm":
            said[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "config.yaml":
            last, problems = Run(path.parent).last_checkpoint()
            digest = hashlib.sha256()
            for section, tensors in sorted(last.tensors.items()) if last else ():
                for key, value in tensors.items():
                    digest.update(f"{section}/{key}".encode() + value.contiguous().numpy().tobytes())
            # Not the id of the run, which is drawn, nor its configuration, which has its date and machine.
            state = {key: value for key, value in last.state.items() if key not in ("run", "config")} if last else None
            said[name] = [_timeless(state), problems, digest.hexdigest()]
    return said


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in _TIMES}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def differences(expected: Any, actual: Any, where: str = "") -> list[str]:
    """The places where two results differ, in words."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = sorted(expected.keys() | actual.keys())
        return [d for k in keys for d in differences(expected.get(k), actual.get(k), f"{where}/{k}")]
    if isinstance(expected, list) and isinstance(actual, list) and where == "/files":
        changed = [f"no {x}" for x in expected if x not in actual] + [f"also {x}" for x in actual if x not in expected]
        return [f"files: {', '.join(changed)}"] if changed else []
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            d for i, pair in enumerate(zip(expected, actual, strict=True)) for d in differences(*pair, f"{where}/{i}")
        ]
    return [] if expected == actual else [f"{where}: {str(expected)[:200]} became {str(actual)[:200]}"]
