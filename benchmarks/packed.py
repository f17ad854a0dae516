"""What a packed network costs, against the same network with ReLU in torch's float32, bfloat16 and int8.

Networks take turns in one process, in a new order each round; each is given channels-last images, float32 in either
memory format, and the fastest of a kind counts. The package bnn-lab, if it is installed (`pip install --no-deps
bnn-lab`: it asks for an older torch), takes part with its convolutions, which are floats, and with its packed product.
`python benchmarks/packed.py --help`; results/ holds committed runs.
"""

import copy
import importlib.util
import random
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import convert_conv2d_weight_memory_format
from turns import Run, machine, parser, race

import minimand as mm
from minimand._support.tables import table_text
from minimand.inference.kernels.bits import pack_above
from minimand.inference.kernels.convolution import pack_weights, prepare
from minimand.models.vision.feedforward import convnet8

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet8": convnet8,
    "cifar_resnet18": lambda: mm.create_model("cifar_resnet18"),
    "resnet20": lambda: mm.create_model("resnet20"),
}


def contestants(make: Callable[[], nn.Module], batch: int) -> dict[str, Run]:
    """The network in each way; packed ones after they were compared with the hardened ones, to the bit."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 32, 32)
    last = x.contiguous(memory_format=torch.channels_last)
    model = make().eval()
    channels_last, fused, half = copy.deepcopy(model), fuse(copy.deepcopy(model)), fuse(copy.deepcopy(model)).bfloat16()
    for network in (channels_last, fused, half):
        convert_conv2d_weight_memory_format(network, torch.channels_last)
    runs: dict[str, Run] = {
        "float32": partial(model, x),
        "float32, channels last": partial(channels_last, last),
        "float32, normalization folded": partial(fused, last),
        "bfloat16, normalization folded": partial(half, last.bfloat16()),
        "int8": partial(quantized(model, x), last),
    }
    for bits in (1, 8):
        hardened = make()
        mm.harden(hardened, mm.Sign(), weight_bits=bits)
        hardened.train()(torch.randn(8, 3, 32, 32))
        packed = mm.pack(hardened.eval())
        assert torch.equal(packed(last), hardened(last))
        runs[f"packed, {bits} {'bit' if bits == 1 else 'bits'}"] = partial(packed, last)
    if importlib.util.find_spec("bnn") is not None and isinstance(model, nn.Sequential):
        runs["bnn-lab, 1 bit"] = partial(of_bnn_lab(copy.deepcopy(model)), last)
    return runs


def quantized(model: nn.Module, x: Tensor) -> nn.Module:
    """The network in torch's int8, calibrated on the images that it is then given."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with warnings.catch_warnings(action="ignore"):  # torch is about to move these elsewhere
        prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("x86"), (x,))
        prepared(x)
        return convert_fx(prepared)


def of_bnn_lab(model: nn.Sequential) -> nn.Module:
    """The network with the binary convolutions of bnn-lab, which take signs themselves, between its ends."""
    from bnn.layers import BinaryConv2d  # pyright: ignore[reportMissingImports]

    layers = [m for m in model if not isinstance(m, nn.ReLU)]
    for i, m in enumerate(layers[1:], 1):
        if isinstance(m, nn.Conv2d):
            (size, _), (step, _), (pad, _) = m.kernel_size, m.stride, m.padding
            layers[i] = BinaryConv2d(m.in_channels, m.out_channels, size, step, pad)
    return convert_conv2d_weight_memory_format(nn.Sequential(*layers).eval(), torch.channels_last)


def products(batch: int, width: int) -> dict[str, Run]:
    """A linear layer of signs by signs, packed each time: ours, that of bnn-lab, and torch's float32."""
    from bnn.kernels.packed import (  # pyright: ignore[reportMissingImports]
        binary_gemm_native_prepacked,
        pack_binary_pm1,
        set_num_threads,
    )

    set_num_threads(torch.get_num_threads())
    x, weight = torch.randn(batch, width), torch.randn(width, width).sign()
    ours = pack_weights(weight.to(torch.int8)[:, :, None, None], 1)
    theirs, _ = pack_binary_pm1(weight.numpy())

    def bnn() -> Tensor:
        return torch.from_numpy(binary_gemm_native_prepacked(pack_binary_pm1(x.numpy())[0], theirs, width))

    def packed() -> Tensor:
        bits = pack_above(x)
        return prepare(bits, ours).sums(bits)

    expected = x.sign() @ weight.T
    assert torch.equal(bnn().float(), expected)
    assert torch.equal(packed().float().flatten(1), expected)
    return {"float32": lambda: x.sign() @ weight.T, "ours": packed, "bnn-lab": bnn}


def show(title: str, times: dict[str, float], peers: tuple[str, ...]) -> None:
    """Print times and how many times as fast as the fastest of each kind of peer."""
    best = {peer: min(value for name, value in times.items() if name.startswith(peer)) for peer in peers}
    rows = [
        [name, f"{1e3 * value:.2f}", *(f"{fastest / value:.2f}" for fastest in best.values())]
        for name, value in times.items()
    ]
    print(f"\n{table_text([title, 'ms', *(f'{peer} / it' for peer in peers)], rows)}", flush=True)


def main() -> None:
    command = parser(__doc__, rounds=15)
    command.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    command.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    random.seed(0)
    print(machine())
    with torch.inference_mode():
        for name in options.network:
            for batch in options.batch:
                times = race(contestants(NETWORKS[name], batch), options.rounds, options.threads)
                show(f"{name}, batch {batch}", times, ("float32", "bfloat16", "int8"))
        if importlib.util.find_spec("bnn") is None:
            print("\nbnn-lab is not installed, and left out")
        else:
            for batch in options.batch:
                times = race(products(batch, 4096), options.rounds, options.threads)
                show(f"linear 4096, batch {batch}", times, ("float32",))


if __name__ == "__main__":
    main()
