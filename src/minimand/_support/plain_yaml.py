"""YAML of plain values: no aliases, which can stand for exponentially much, and no depth that nobody writes."""

import re
from typing import Any

from .errors import MinimandError

_DEPTH = 50
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""What a byte of a file's name that is no UTF-8 is written as; libyaml takes it for an error."""


class YamlError(MinimandError):
    """A text that is no YAML of plain values."""


def read_yaml(text: str) -> Any:
    """The plain value that a YAML text stands for; raises YamlError."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast
    if _LONE_SURROGATE.search(text):
        loader = yaml.SafeLoader
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise YamlError("it has an alias (*name), which is not read; write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH:
                raise YamlError(f"it is nested more than {_DEPTH} deep")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except (ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(f"a value in it cannot be read ({error})") from None


def yaml_text(value: Any) -> str:
    """A plain value as YAML that `read_yaml` reads, its mappings in their order."""
    import yaml

    try:
        return yaml.dump(value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    except UnicodeEncodeError:  # a lone surrogate, which libyaml cannot write
        return yaml.dump(value, Dumper=yaml.SafeDumper, sort_keys=False)
