"""YAML of plain values: no aliases, which can stand for exponentially much, and no depth that nobody writes."""

from typing import Any

from .errors import MinimandError

_DEPTH = 50


class YamlError(MinimandError):
    """A text that is no YAML of plain values."""


def read_yaml(text: str) -> Any:
    """The plain value that a YAML text stands for; raises YamlError."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise YamlError("it has an alias (*name), which is not read; write the value out")
            self.depth += 1
            if self.depth > _DEPTH:
                raise YamlError(f"it is nested more than {_DEPTH} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except (ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(f"a value in it cannot be read ({error})") from None
