"""Every optimizer of torch.optim, by one sweep."""

from pathlib import Path

import pytest
import torch

import minimand as mm
from minimand._support.errors import MinimandError
from minimand.recipes.recipe import as_config, from_config
from minimand.recipes.torch_optimizer import torch_optimizers
from minimand.training.loop.events import Event, StepDone
from sweeps import thin

USABLE = [name for name in torch_optimizers() if name not in ("LBFGS", "SparseAdam", "Muon")]


def trained(name: str, folder: Path, stop: int | None) -> list[torch.Tensor]:
    def watch(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == stop:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    recipe = mm.Recipe(2, 600, f"torch.optim.{name}(lr=0.01)", "cosine")
    try:
        mm.fit(model, "digits", recipe=recipe, run=folder, callbacks=[watch], checkpoint_every=0, progress=False)
    except KeyboardInterrupt:
        return trained(name, folder, None)
    return list(model.state_dict().values())


@pytest.mark.parametrize("name", thin(USABLE, ("NAdam", "ASGD", "Adafactor")))
def test_an_optimizer_of_torch_trains_and_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    whole, parts = trained(name, tmp_path / "whole", None), trained(name, tmp_path / "parts", 3)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    recipe = mm.Recipe(optimizer=f"{name.lower()}(lr=0.01)") if name.lower() not in ("sgd", "adam", "adamw") else None
    if recipe is not None:
        assert from_config(as_config(recipe)) == recipe
        assert recipe == mm.Recipe(optimizer=mm.TorchOptimizer(name, lr=0.01))


def test_groups_are_those_of_a_recipe() -> None:
    model = mm.create_model("resnet20(width=8)", in_channels=1)
    optimizer = mm.TorchOptimizer("nadam", 0.1, 0.02, {"betas": [0.8, 0.9]}).build(model, biases=4.0)
    by_share = {(group["share"], group["weight_decay"]): group for group in optimizer.param_groups}
    assert set(by_share) == {(1.0, 0.02), (1.0, 0.0), (4.0, 0.005)}
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("nadm", "Did you mean 'nadam'"),
        ("torch.optim.NAdam(lrr=1)", "unknown option of torch.optim.NAdam 'lrr'. Did you mean 'lr'"),
        ("lbfgs", "torch.optim.LBFGS calls the loss again within a step"),
        ("sparseadam", "torch.optim.SparseAdam takes sparse gradients only"),
        ("nadam(lr=-1)", "TorchOptimizer.lr is -1"),
        ("nadam(betas=(2, 0.9))", "torch.optim.NAdam does not take"),
        ("rprop(weight_decay=0.1)", "Rprop has none"),
    ],
)
def test_an_optimizer_that_cannot_be_is_named(text: str, pattern: str) -> None:
    with pytest.raises(MinimandError, match=pattern):
        mm.Recipe(optimizer=text)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 has it")
def test_muon_of_torch_takes_matrices_and_names_what_is_none() -> None:
    recipe = mm.Recipe(optimizer="torch.optim.Muon(lr=0.02)")
    assert isinstance(recipe.optimizer, mm.TorchOptimizer)
    assert isinstance(mm.Recipe(optimizer="muon").optimizer, mm.Muon)
    assert isinstance(recipe.optimizer.build(torch.nn.Linear(3, 3, bias=False)), torch.optim.Muon)
    with pytest.raises(MinimandError, match="takes matrices only, and bias is none"):
        recipe.optimizer.build(torch.nn.Linear(3, 3))
