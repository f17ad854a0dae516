"""What a layer on bits costs, against the same layer in torch's fp32, bf16 and int8.

A whole layer is, in torch: convolution, batch norm in evaluation, sign; or, with the batch norm folded in, convolution
and sign; on bits: packing, convolution, threshold. Its fp32 and bf16 peers may take contiguous or channels-last memory,
whichever is faster. The int8 peer (oneDNN's) is given quantized activations, so beside it stands the layer without
packing, from bits to bits.
Contestants take turns, as `turns.race` lets them. `--help` lists what can be changed.
"""

import random
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import Run, machine, parser, race

from minimand._support.tables import table_text
from minimand.inference.kernels import native
from minimand.inference.kernels.bits import Bits, pack_above, unpack
from minimand.inference.kernels.convolution import PackedWeights, pack_weights, prepare

BITS = (1, 2, 4, 8)
PEERS = {"fp32": torch.float32, "bf16": torch.bfloat16}
LAYERS = [  # batch, channels in, out, size, window
    *((1, 64, 64, 32, 3), (8, 64, 64, 32, 3), (1, 128, 128, 32, 3), (8, 128, 128, 16, 3), (1, 256, 256, 16, 3)),
    *((8, 256, 256, 8, 3), (1, 512, 512, 8, 3), (8, 512, 512, 4, 3), (8, 16, 16, 32, 3), (8, 32, 32, 16, 3)),
    *((8, 256, 256, 16, 1), (1, 1024, 1024, 1, 1), (64, 1024, 1024, 1, 1), (1, 4096, 4096, 1, 1)),
]


def contestants(batch: int, inputs: int, outputs: int, size: int, window: int) -> dict[str, Run]:
    """The layer in each way, after those on bits were compared with whole numbers."""
    x = torch.randn(batch, inputs, size, size).contiguous(memory_format=torch.channels_last)
    pad, runs = window // 2, dict[str, Run]()
    for name, dtype in PEERS.items():
        for memory in (torch.contiguous_format, torch.channels_last):
            weight = torch.randn(outputs, inputs, window, window).to(dtype).contiguous(memory_format=memory)
            images, bias = x.to(dtype).contiguous(memory_format=memory), torch.randn(outputs).to(dtype)
            norm = nn.BatchNorm2d(outputs).eval().to(dtype)
            runs[f"{name} folded {memory}"] = lambda g=images, w=weight, b=bias: F.conv2d(g, w, b, 1, pad).sign_()
            runs[f"{name} {memory}"] = lambda g=images, w=weight, n=norm: n(F.conv2d(g, w, None, 1, pad)).sign()
    runs["int8"] = quantized(x.sign(), outputs, window, pad)
    for bits in BITS:
        shape, top = (outputs, inputs, window, window), max(1, 2 ** (bits - 1) - 1)
        integers = (torch.randint(0, 2, shape) * 2 - 1) * torch.randint(1, top + 1, shape)
        weights, bag = pack_weights(integers.to(torch.int8), bits), pack_above(x)
        limits = torch.randint(-9, 9, (outputs,), dtype=torch.int32)
        exact = F.conv2d(torch.where(x > 0, 1.0, -1.0).double(), integers.double(), padding=pad) > limits[:, None, None]
        assert unpack(_above(bag, weights, limits, pad), 0, 1).bool().equal(exact)
        runs[f"whole {bits}"] = lambda w=weights, t=limits: _above(pack_above(x), w, t, pad)
        runs[f"bits {bits}"] = lambda w=weights, t=limits, b=bag: _above(b, w, t, pad)
    return runs


def _above(bits: Bits, weights: PackedWeights, limits: Tensor, padding: int) -> Bits:
    return prepare(bits, weights, padding=padding).above(bits, limits)


def quantized(signs: Tensor, outputs: int, window: int, pad: int) -> Run:
    """oneDNN's int8 convolution, from and to quantized activations."""
    with warnings.catch_warnings(action="ignore"):  # torch is about to move these elsewhere
        images = torch.quantize_per_tensor(signs, 1.0, 1, torch.quint8)
        scales, zeros = torch.full((outputs,), 0.02), torch.zeros(outputs, dtype=torch.long)
        weight = torch.randn(outputs, signs.shape[1], window, window)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        pads, ones = [pad, pad], [1, 1]
        packed = torch.ops.quantized.conv2d_prepack(weight, torch.randn(outputs), ones, pads, ones, 1)
    return lambda: torch.ops.quantized.conv2d(images, packed, 0.1, 0)


def fastest(times: dict[str, float]) -> dict[str, float]:
    """The times, with those of each peer in its faster memory format."""
    kinds = [f"{peer}{kind}" for peer in PEERS for kind in (" folded", "")]
    return times | {
        kind: min(times[f"{kind} {memory}"] for memory in (torch.contiguous_format, torch.channels_last))
        for kind in kinds
    }


def main() -> None:
    command = parser(__doc__, rounds=15)
    command.add_argument("--level", choices=native.supported(), default=None, help="the best one if not given")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    level = options.level or native.supported()[-1]
    print(f"{machine()}, kernels: {level}")
    tables: dict[str, list[list[str]]] = {"times": [], "": [], " folded": [], "int8": []}
    with torch.no_grad(), native.level(level):
        for batch, inputs, outputs, size, window in LAYERS:
            runs = contestants(batch, inputs, outputs, size, window)
            times = fastest(race(runs, options.rounds, options.threads))
            kind = "linear" if size == 1 else f"{window}x{window} @{size}"
            name = f"{inputs}-{outputs} {kind}, batch {batch}"
            kinds = [peer + kind for kind in ("", " folded") for peer in PEERS]
            shown = (*kinds, "int8", *(f"whole {b}" for b in BITS))
            tables["times"].append([name, *(f"{1e3 * times[key]:.3f}" for key in shown)])
            for kind in ("", " folded"):
                ratios = [[times[peer + kind] / times[f"whole {b}"] for peer in PEERS] for b in BITS]
                tables[kind].append([name, *(f"{fp32:.1f} / {bf16:.1f}" for fp32, bf16 in ratios)])
            tables["int8"].append([name, *(f"{times['int8'] / times[f'bits {b}']:.1f}" for b in BITS)])
    columns = [f"{b} bit" for b in BITS]
    print("\nMilliseconds")
    print(table_text(["layer", "fp32", "bf16", "fp32 folded", "bf16 folded", "int8", *columns], tables["times"]))
    print("\nWhole layers: times as fast as fp32 / bf16, convolution, batch norm, sign")
    print(table_text(["layer", *columns], tables[""]))
    print("\nWhole layers: times as fast as fp32 / bf16, batch norm folded into the convolution")
    print(table_text(["layer", *columns], tables[" folded"]))
    print("\nFrom bits to bits: times as fast as oneDNN's int8")
    print(table_text(["layer", *columns], tables["int8"]))


if __name__ == "__main__":
    main()
