"""Recipes by name, by one sweep."""

from dataclasses import fields
from typing import Any

import pytest

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.cli.shared import named_recipe
from minimand.recipes.recipe import as_config, from_config
from minimand.recipes.registry import RECIPES, as_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_by_name_is_one_that_a_run_can_keep(name: str) -> None:
    recipe = mm.recipe(name)
    assert from_config(as_config(recipe)) == recipe
    assert mm.list_recipes()[name]
    assert as_recipe(f"{name}(epochs=2)") == mm.recipe(name, epochs=2) != recipe
    assert mm.recipe(name, clip=2.0).clip == 2
    assert all(hasattr(recipe, field.name) for field in fields(mm.Recipe))


def test_a_batch_of_another_size_has_another_rate_unless_it_is_named() -> None:
    large, small = mm.recipe("airbench"), mm.recipe("airbench(batch_size=256)")
    assert large.optimizer.lr == 1.5
    assert small.optimizer.lr == 1.5 / 4
    assert mm.recipe("airbench", optimizer="sgd(lr=1)").optimizer == mm.SGD(lr=1)


def test_recipes_of_papers_have_the_settings_of_their_tables() -> None:
    signs = mm.recipe("friesen2018")
    assert signs.optimizer == mm.Adam(1e-3, weight_decay=5e-4)  # an L2 penalty, not decoupled
    assert (signs.epochs, signs.schedule) == (300, mm.StepDecay((200 / 300, 250 / 300), by=0.1))
    layer = mm.recipe("belilovsky2019")
    assert layer.optimizer == mm.SGD(0.1, momentum=0.9, weight_decay=5e-4)
    assert (layer.epochs, layer.schedule) == (50, mm.StepDecay((15 / 50, 30 / 50, 45 / 50), by=0.2))
    layer = mm.recipe("belilovsky2019", images="imagenet")
    assert (layer.epochs, layer.schedule) == (45, mm.StepDecay((20 / 45, 40 / 45), by=0.1))
    with pytest.raises(MinimandError, match="unknown images 'imagnet'. Did you mean 'imagenet'"):
        mm.recipe("belilovsky2019(images='imagnet')")


def test_the_recipe_of_momentum_streams_gives_each_role_its_rate() -> None:
    model = mm.create_model("gpt_nano(width=8, depth=1)", "yurii_former")
    recipe = mm.recipe("wu2026")
    optimizer = recipe.optimizer.build(model, recipe.scalars)
    settings = {
        p: (g["lr"] * g.get("share", 1), g["weight_decay"], "momentum" in g)
        for g in optimizer.param_groups
        for p in g["params"]
    }
    of_roles = {name: settings[p] for name, p in model.named_parameters()}
    expected = {  # as in the code of Momentum Streams: rate, decay, whether it is Muon
        "inner.qkv.weight": (0.02, 0, True),
        "inner.contract.weight": (0.02, 0, True),
        "table.tokens.weight": (6e-4, 0.1, False),
        "table.positions.weight": (6e-4, 0.1, False),
        "norm.weight": (6e-4, 0, False),
        "coefficients.momentum": (3e-3, 0, False),
    }
    for ending, (rate, decay, is_matrix) in expected.items():
        of_role = [setting for name, setting in of_roles.items() if name.endswith(ending)]
        assert of_role
        for setting in of_role:
            assert setting == (pytest.approx(rate), pytest.approx(decay), is_matrix)


@pytest.mark.parametrize(
    ("text", "changes", "pattern"),
    [
        ("airbnech", {}, "Did you mean 'airbench'"),
        ("airbench(epoch=3)", {}, "Did you mean 'epochs'"),
        ("airbench", {"epochs": 0}, "Recipe.epochs is 0"),
        ("airbench(3)", {}, "cannot read the recipe"),
    ],
)
def test_what_is_no_recipe_is_named(text: str, changes: dict[str, int], pattern: str) -> None:
    with pytest.raises(MinimandError, match=pattern):
        mm.recipe(text, **changes)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("epochs", "a"), ("batch_size", 0), ("batch_size", -4)])
def test_sizes_that_decide_other_settings_are_checked_first(name: str, field: str, value: Any) -> None:
    with pytest.raises(MinimandError, match=f"Recipe.{field} is {value!r}; expected an integer"):
        mm.recipe(name, **{field: value})


def test_a_recipe_is_taken_by_its_name(tmp_path) -> None:
    model = mm.create_model("mlp(width=4)", in_channels=64)
    recipe = "airbench(epochs=1, batch_size=600, whiten=0, test_views=1, augmentation=None)"
    result = mm.fit(model, "digits", recipe=recipe, run=tmp_path, progress=False)
    assert result.run is not None
    assert result.run.config()["recipe"]["Recipe"]["batch_size"] == 600
    with pytest.raises(TypeError, match="recipe is 3"):
        mm.fit(model, "digits", recipe=3)  # pyright: ignore[reportArgumentType]


def test_the_command_line_gives_a_named_recipe_its_sizes() -> None:
    options = {"recipe": "airbench(epochs=3)", "batch_size": 256, "epochs": None}
    assert named_recipe(options) == mm.recipe("airbench", epochs=3, batch_size=256)
    assert named_recipe({"recipe": None}) is None
