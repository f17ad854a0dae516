"""The budgets of the study of local learning, counted again."""

import pytest
import torch

from minimand.data import Data, as_data
from minimand.experiments.deciding.judged import recipe_of, training_flops
from minimand.studies.local_learning.local_learning import ARMS, STUDY, kept_bytes, network


@pytest.fixture(scope="module")
def images() -> Data:
    part = torch.rand(129, 3, 32, 32), torch.arange(129) % 10
    return as_data((part, part))


def test_every_arm_has_the_operations_of_its_budget(images: Data) -> None:
    """Within a tenth, which is what whole epochs allow."""
    cells = STUDY.cells_at("cpu")
    whole = training_flops(network(16, images), images, recipe_of(cells[0])) / cells[0]["epochs"]
    for arm, (method, share) in ARMS.items():
        of_arm = [cell for cell in cells if cell["arm"] == arm]
        recipe = recipe_of(of_arm[0])
        counted = training_flops(network(16, images), images, recipe, method) / recipe.epochs / whole
        assert counted == pytest.approx(share, rel=0.02), arm
        for cell in of_arm:
            budget = int(cell["group"].removesuffix(" epochs"))
            assert cell["epochs"] * share == pytest.approx(budget, rel=0.11), (arm, budget)


def test_parts_of_a_batch_keep_no_more_than_layers(images: Data) -> None:
    memory = {cell["arm"]: kept_bytes(cell, images) for cell in STUDY.cells_at("cpu")[: len(ARMS)]}
    assert 0.7 * memory["layer by layer"] < memory["end to end, in parts"] <= memory["layer by layer"]
    assert memory["all at once"] == pytest.approx(memory["layer by layer"], rel=0.02)
    assert memory["end to end, with the heads"] > memory["end to end"] > 2 * memory["layer by layer"]
