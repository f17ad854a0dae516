import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from minimand.data.conversion import as_data
from minimand.data.data import hold_out
from minimand.data.samples import Samples

INPUTS, TARGETS = torch.arange(20.0)[:, None], torch.arange(20) % 2
TEST = (torch.full((4, 1), -1.0), torch.arange(4) % 2)


def _seen(samples: Samples) -> tuple[Tensor, Tensor]:
    (batch,) = samples.batches(100)
    return batch[0].flatten(), batch[1]


@pytest.mark.parametrize("train", [(INPUTS, TARGETS), TensorDataset(INPUTS, TARGETS)], ids=["arrays", "items"])
def test_the_parts_are_all_training_samples_and_no_test_sample(train: object) -> None:
    held = hold_out(as_data((train, TEST)), 0.25, seed=3)
    assert (len(held.train), len(held.test)) == (15, 5)
    parts = [_seen(part) for part in (held.train, held.test)]
    assert sorted(torch.cat([inputs for inputs, _ in parts]).tolist()) == INPUTS.flatten().tolist()
    for inputs, targets in parts:
        assert torch.equal(targets, inputs.long() % 2)
    again, other = (hold_out(as_data((train, TEST)), 0.25, seed=seed) for seed in (3, 4))
    assert torch.equal(_seen(again.test)[0], _seen(held.test)[0])
    assert not torch.equal(_seen(other.test)[0], _seen(held.test)[0])


def test_what_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="given has 2 training samples; expected at least 5"):
        hold_out(as_data(((INPUTS[:2], TARGETS[:2]), TEST)), 0.2, seed=0)
    with pytest.raises(TypeError, match="Loader, which is read in its own order; expected tensors or a data set"):
        hold_out(as_data((DataLoader(TensorDataset(INPUTS, TARGETS), 4), TEST)), 0.2, seed=0)
