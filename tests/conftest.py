from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Derandomized: the same examples on every machine; timing is no matter of these tests.
settings.register_profile("minimand", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("minimand")

# The tests run side by side, one on each core.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The folder of data beside the checkout."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with the data sets")
    return folder
