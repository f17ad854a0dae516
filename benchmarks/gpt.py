"""What a language model costs: a training step of `gpt` against transformers' GPT-2 of the same size.

Both run `scaled_dot_product_attention`, from the same weights; networks take turns, step by step, in one process. A
second model of transformers is the control that tells the noise. `python benchmarks/gpt.py --help` lists what can be
changed; results/ holds committed runs.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import in_modes, in_turns, print_ratios, seconds

import minimand as mm
from minimand._support.torch.torchvision import require_torchvision

SIZES: dict[str, dict[str, Any]] = {
    "nano": {"num_tokens": 65, "context": 64, "width": 128, "depth": 4, "heads": 4},
    "small": {"num_tokens": 1024, "context": 128, "width": 256, "depth": 6, "heads": 8},
}
OURS = {
    "gpt": "gradient_descent",
    "heavy_ball": "heavy_ball(momentum=0.5)",
    "nesterov": "nesterov(momentum=0.5)",
    "bdia": "bdia",
    "heavy_ball, learnable": "heavy_ball(momentum=Learnable(0.5, 0, 1))",
}


class Logits(nn.Module):
    """A language model of transformers that gives its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, use_cache=False).logits


def theirs(size: dict[str, Any]) -> Any:
    """GPT-2 of transformers, without dropout."""
    require_torchvision("by transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size["num_tokens"],
        n_positions=size["context"],
        n_embd=size["width"],
        n_layer=size["depth"],
        n_head=size["heads"],
        bos_token_id=0,
        eos_token_id=0,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    model = GPT2LMHeadModel(config)
    model.set_attn_implementation("sdpa")
    return model


def contestants(size: dict[str, Any]) -> dict[str, nn.Module]:
    """The networks, all with the weights of one model of transformers."""
    source = theirs(size)
    networks: dict[str, nn.Module] = {"transformers": Logits(source), "transformers, again": Logits(theirs(size))}
    for label, algorithm in OURS.items():
        networks[label] = mm.models.from_transformers(mm.create_model("gpt_nano", algorithm, **size), source)
    return networks


@dataclass(frozen=True)
class Batch:
    """Random tokens, and the tokens that follow."""

    inputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, size: dict[str, Any], count: int, device: torch.device) -> "Batch":
        tokens = torch.randint(size["num_tokens"], (count, size["context"] + 1)).to(device)
        return cls(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def measure(name: str, count: int, rounds: int, device: torch.device, compiled: bool) -> None:
    """Print the median ratio of each network's step to that of transformers in the same round."""
    torch.compiler.reset()
    size = SIZES[name]
    batch, running = Batch.of(size, count, device), {}
    for label, network in contestants(size).items():
        network.to(device)
        running[label] = mm.compiled(network) if compiled else network
    torch.testing.assert_close(
        running["gpt"](batch.inputs), running["transformers"](batch.inputs), rtol=1e-3, atol=1e-3
    )
    mode = "compiled" if compiled else "eager"
    print(f"\n{name} {size}, batch {count}, {mode}: {rounds} rounds")
    steps = {label: partial(step, network, batch, device) for label, network in running.items()}
    print_ratios(in_turns(steps, rounds))


def step(network: nn.Module, batch: Batch, device: torch.device) -> float:
    """The seconds of one forward and backward pass."""
    network.zero_grad()

    def run() -> None:
        F.cross_entropy(network(batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()

    return seconds(run, device)


if __name__ == "__main__":
    in_modes(__doc__, "size", list(SIZES), 12, measure, choices=list(SIZES))
