"""What rewiring costs: a training step of real models with an algorithm around their blocks, against as they are.

Needs the extra `vision`, and for one of the models transformers. `python benchmarks/rewire.py --help`; results/ holds
committed runs.
"""

import copy
import importlib.util
from collections.abc import Callable

import torch
from skeleton import compare
from torch import Tensor, nn
from turns import machine, parser

import minimand as mm
from minimand._support.torch.torchvision import require_timm

ALGORITHMS = ("heavy_ball(momentum=0)", "heavy_ball(momentum=0.5)", "nesterov_y(momentum=0.5)")


class Encoder(nn.Module):
    """torch's own transformer encoder, with a classifier on the mean of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(dim=1))


class Bert(nn.Module):
    """The encoder of transformers, small and without dropout, with a classifier on the mean of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=768,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).last_hidden_state.mean(dim=1))


def models() -> dict[str, tuple[Callable[[], nn.Module], Tensor]]:
    """Makers of the models, with a batch for each."""
    timm = require_timm()
    import torchvision

    images = torch.randn(16, 3, 64, 64)
    makers: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
        "timm resnet50": (lambda: timm.create_model("resnet50", num_classes=10), images),
        "timm convnext_atto": (lambda: timm.create_model("convnext_atto", num_classes=10), images),
        "timm vit_tiny": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10), images),
        "torch TransformerEncoder": (Encoder, torch.randn(16, 65, 192)),
        "torchvision resnet34": (lambda: torchvision.models.resnet34(num_classes=10), images),
        "transformers Bert": (Bert, torch.randint(1000, (16, 65))),
    }
    if importlib.util.find_spec("transformers") is None:
        print("transformers Bert: left out, transformers is not installed")
        del makers["transformers Bert"]
    return makers


def main() -> None:
    command = parser(__doc__, rounds=20)
    command.add_argument("--model", nargs="+", help="some of them, by name")
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    command.add_argument("--mode", choices=("eager", "compiled"), default="eager")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    print(machine(torch.device(options.device)))
    for name, (make, x) in models().items():
        if options.model and name not in options.model:
            continue
        torch.manual_seed(0)
        model = make()
        networks = {"as it is": model, "as it is, again": copy.deepcopy(model)}
        networks |= {algorithm: mm.rewire(copy.deepcopy(model), algorithm) for algorithm in ALGORITHMS}
        expected, still = (networks[label].eval()(x) for label in ("as it is", ALGORITHMS[0]))
        difference = float((expected - still).detach().abs().max())
        print(
            f"\n{name}, batch {len(x)}, {options.mode}: {options.rounds} rounds; difference at momentum 0: {difference}"
        )
        for network in networks.values():
            network.train()
        y = torch.randint(10, (len(x),))
        compare(networks, x, y, options.rounds, torch.device(options.device), options.mode == "compiled")


if __name__ == "__main__":
    main()
