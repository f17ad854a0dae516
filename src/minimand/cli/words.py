"""Errors in the words of the command line: they name the option that a person typed."""

import re
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def in_options(message: str, command: Any) -> str:
    """A message with the fields of a command by their options: `Recipe.epochs is 0` as `--epochs is 0`."""
    command = getattr(command, "do", command)  # `study run` is the field `do` of `study`
    if not is_dataclass(command):
        return message
    # Fields without a default are positional, and go by their names.
    names = {field.name for field in fields(command) if field.default is not MISSING}

    def option(name: str) -> str:
        # A setting within the text of another option, as epochs in --recipe "airbench(epochs=0)".
        texts = {field.name: getattr(command, field.name) for field in fields(command)}
        within = [other for other, text in texts.items() if isinstance(text, str) and re.search(rf"\b{name} *=", text)]
        dashed = [f"--{other.replace('_', '-')}" for other in (name, *within)]
        return f"{name} in {dashed[1]}" if within and texts[name] is None else dashed[0]

    def of_class(match: re.Match[str]) -> str:
        return option(match[1]) if match[1] in names else match[0]

    def of_value(match: re.Match[str]) -> str:
        return f"{option(match[1])} {match[2]}" if match[1] in names else match[0]

    if "own_model" in names:  # commands whose --model is another thing have --own-model for this
        message = message.replace("--model path/to/", "--own-model path/to/")
    message = re.sub(r"(?<![\w.])[A-Z]\w*\.([a-z_]+)\b(?!\.)", of_class, message)
    message = re.sub(r"(?<=such as )([a-z_]+)=([\w.]*\w)", of_value, message)
    first = re.match(r"([a-z_]+)(?= (is|has|takes) )", message)
    return option(first[1]) + message[first.end() :] if first and first[1] in names else message
