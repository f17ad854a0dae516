"""Short fingerprints of data and losses, which the configuration of a run cannot spell out."""

import hashlib

import torch

from ...data import Arrays, Data, NoSamples
from ...data.text.windows import Windows
from ...networks.fingerprint import digest
from ..loop.losses import Loss

_ROWS = 64


def of_data(data: Data) -> str | None:
    """The fingerprint of some training and test samples; None where they are not in memory and no text."""
    if isinstance(data.train, Windows) and isinstance(data.test, Windows | NoSamples):
        return digest([data.train.key, getattr(data.test, "key", ""), data.train.context])
    if not (isinstance(data.train, Arrays) and isinstance(data.test, Arrays)):
        return None
    return digest([_rows(data.train), _rows(data.test), data.mean, data.std, data.augmentation])


def of_loss(loss: Loss, data: Data, device: torch.device) -> str | None:
    """The fingerprint of a loss by its value on made-up outputs; None if it cannot be called on them."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(32, data.num_outputs, generator=generator).to(device)
    targets = torch.randn(32, data.num_outputs, generator=generator)
    if data.is_text:
        outputs, targets = outputs[None], (torch.arange(32) % data.num_outputs)[None]
    elif data.task == "classification":
        targets = torch.arange(32) % data.num_outputs
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            return f"{float(loss(outputs, targets.to(device))):.4g}"
    except Exception:  # somebody else's function may need what training gives it
        return None


def _rows(samples: Arrays) -> str:
    chosen = torch.linspace(0, len(samples) - 1, _ROWS, dtype=torch.double).long().unique()
    parts = [t[chosen.to(t.device)].double().cpu().numpy().tobytes() for t in (samples.inputs, samples.targets)]
    return hashlib.sha256(b"".join(parts)).hexdigest()
