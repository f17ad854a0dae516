"""A network that is known to train is not called one that does not."""

from importlib.util import find_spec

import pytest
import torch

import minimand as mm
from sweeps import thin
from zoo import ZOO

_EACH_RUN = ("squeezenet1_0", "resnet18", "nfnet_l0", "vit_tiny_patch16_224", "bert", "gpt2")
_PACKAGES = all(map(find_spec, ("timm", "torchvision", "transformers")))


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 30


@pytest.mark.skipif(not _PACKAGES, reason="timm, torchvision and transformers are not all installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", thin(ZOO, _EACH_RUN))
def test_what_trains_is_not_called_hopeless(name: str) -> None:
    torch.manual_seed(0)
    model, batch = ZOO[name]()
    verdict = mm.diagnose(model, batch, theory=False).verdict
    assert verdict.severity != "fatal", str(verdict)
