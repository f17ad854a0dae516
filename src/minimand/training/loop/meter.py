"""What is summed up over an epoch: loss, right answers, samples, seconds."""

import time

import torch


class EpochMeter:
    """Sums over the present epoch, which go on where they were after a checkpoint."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new epoch: all sums are 0."""
        self.sums = torch.zeros(3, dtype=torch.double)
        """Loss times samples, right answers, samples."""
        self.seconds_before = 0.0
        """Seconds of this epoch before this process."""
        self.began = time.monotonic()

    def start_clock(self) -> None:
        """Count the seconds of this process from now on."""
        self.began = time.monotonic()

    def count(self, loss: float, right: float, samples: int) -> None:
        """Add a batch: its mean loss, right answers and size."""
        self.sums += torch.tensor([loss * samples, right, samples], dtype=torch.double)

    @property
    def seconds(self) -> float:
        """The seconds of this epoch so far."""
        return self.seconds_before + time.monotonic() - self.began

    def averages(self) -> tuple[float, float]:
        """The mean loss and the share of right answers over the samples of this epoch."""
        loss, right, samples = self.sums.tolist()
        return loss / samples, right / samples
