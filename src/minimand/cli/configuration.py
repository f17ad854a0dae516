"""Options from a YAML file: written by hand, or the configuration of a run."""

from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .._support.errors import MinimandError, WrongTypeError, unknown_name
from .._support.plain_yaml import YamlError, read_yaml
from .options import TrainingOptions

Command = TypeVar("Command", bound=TrainingOptions)
_NOT_READ = {"config", "run", "quiet"}


def with_config(command: Command) -> tuple[Command, Any]:
    """The command with the options of its --config file in place of those left out, and the file's recipe or None.

    Raises:
        MinimandError: a file that holds no options, an unknown option or a value of another type.
    """
    if command.config is None:
        return command, None
    content = _read(command.config)
    recipe = None
    if "fingerprints" in content:  # the configuration of a run
        recipe, content = content.get("recipe"), _of_run(content, command)
    known = {field.name: field for field in fields(command) if field.name not in _NOT_READ}
    hints = get_type_hints(type(command))
    changes: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            if recipe is not None:
                continue  # the configuration of a run has options of other commands too
            raise unknown_name(f"option in {command.config}", str(key), known)
        default = known[name].default
        if getattr(command, name) == (None if default is MISSING else default):
            changes[name] = _converted(f"{key} in {command.config}", value, hints[name])
    _forbid_code(changes)
    return replace(command, **changes), recipe


def _read(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"--config: no file {path!r}.")
    try:
        content = read_yaml(Path(path).read_text(encoding="utf-8"))
    except (YamlError, UnicodeDecodeError) as error:
        raise MinimandError(f"--config {path} is no YAML of options ({error}).") from None
    if not isinstance(content, dict) or not content:
        raise MinimandError(f"--config {path} holds no options; expected lines such as 'epochs: 5'.")
    return content


def _of_run(content: dict[str, Any], command: TrainingOptions) -> dict[str, Any]:
    """The options that the command line began a run with; of a run of Python code the model and data must be named."""
    options = content.get("command")
    if isinstance(options, dict):
        return {name: value for name, value in options.items() if value is not None and name != "recipe"}
    missing = [option for option, value in (("--model", command.model), ("--data", command.data)) if value is None]
    if missing:
        raise MinimandError(
            f"--config {command.config} is of a run that Python code began; expected {' and '.join(missing)} beside it."
        )
    return {"seed": content.get("seed", 0)}


def _converted(what: str, value: Any, hint: Any) -> Any:
    """A value of YAML as the type of an option: whole numbers are decimals too, and 1e-3 is a number."""
    if get_origin(hint) is tuple or any(get_origin(kind) is tuple for kind in get_args(hint)):
        return tuple(value) if isinstance(value, list) else (value,)
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    if value is None or any(not isinstance(kind, type) for kind in kinds):  # a Literal: tyro's work is done by checks
        return value
    if float in kinds and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, tuple(kinds)) and (bool in kinds or not isinstance(value, bool)):
        return value
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    raise WrongTypeError(f"{what} is {value!r}; expected {names.get(kinds[0], kinds[0].__name__)}.")


def _forbid_code(options: dict[str, Any]) -> None:
    """Raise MinimandError for code of one's own: a file never decides what code runs."""
    from ..algorithms import as_algorithm
    from ..models.own import forbid_own

    forbid_own(options.get("model"))
    algorithms = options.get("algorithm") or ()
    for algorithm in [algorithms] if isinstance(algorithms, str) else algorithms:
        as_algorithm(algorithm, allow_files=False)
