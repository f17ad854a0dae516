"""Blocks by name."""

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.blocks.registry import BLOCKS, as_block


@pytest.mark.parametrize("name", BLOCKS)
def test_the_example_of_every_kind_keeps_the_shape_of_its_batch(name: str) -> None:
    family = BLOCKS[name]
    x = torch.randn(family.shape)
    assert family.example()(x).shape == x.shape
    assert len(mm.blocks.list_blocks()[name]) > 24


def test_a_block_of_a_name_is_the_one_that_its_function_makes() -> None:
    assert str(as_block("two_layer(width=6, hidden=5)")) == str(mm.blocks.two_layer(6, 5))
    assert str(mm.unroll("nesterov", ["one_layer(width=3)"] * 2).blocks[1]) == str(mm.blocks.one_layer(3))
    own = nn.Linear(2, 2)
    assert as_block(own) is own


def test_mistakes_in_a_name() -> None:
    with pytest.raises(ValueError, match="unknown block 'two_layers'. Did you mean 'two_layer'"):
        mm.unroll("nesterov", ["two_layers(width=3)"])
    with pytest.raises(ValueError, match="unknown argument of two_layer 'widht'. Did you mean 'width'"):
        as_block("two_layer(widht=3)")
    with pytest.raises(ValueError, match="blocks is str; expected a list"):
        mm.unroll("nesterov", "two_layer(width=3)")
