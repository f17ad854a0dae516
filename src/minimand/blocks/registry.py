"""Learnable blocks by name, and what a family of them says of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .._support.names.calls import call_with, parse_call
from .._support.names.registry import Registry, first_line, instance_of

Maker = TypeVar("Maker", bound=Callable[..., Any])


@dataclass(frozen=True)
class BlockFamily:
    """A kind of learnable blocks T that keep the shape of what they are given."""

    make: Callable[..., Any]
    """A function or class that makes a block of a width, or a number of channels."""
    shape: tuple[int, ...]
    """The shape of a batch that a block made with `options` takes."""
    options: Mapping[str, Any]
    """Arguments of `make` for an example: a small block."""

    def example(self) -> Any:
        return self.make(**self.options)


BLOCKS: Registry[BlockFamily] = Registry(
    "block", "blocks", "minimand.blocks", instance_of(BlockFamily), lambda family: first_line(family.make)
)
"""The kinds of learnable blocks by name; those of other packages come by the entry points `minimand.blocks`."""


def block(name: str, shape: tuple[int, ...], **options: Any) -> Callable[[Maker], Maker]:
    """A decorator that registers what makes a kind of blocks, with `shape` and `options` as in `BlockFamily`."""

    def decorate(make: Maker) -> Maker:
        BLOCKS.add(name, BlockFamily(make, shape, options))
        return make

    return decorate


def as_block(block: Any) -> Any:
    """The block of a name, with arguments as in `two_layer(width=6, hidden=5)`; whatever is no text as it is."""
    if not isinstance(block, str):
        return block
    name, options = parse_call(block, "block")
    return call_with(BLOCKS.named(name).make, options, name)


def list_blocks() -> dict[str, str]:
    """A line about each kind of learnable blocks, by name."""
    return BLOCKS.lines()
