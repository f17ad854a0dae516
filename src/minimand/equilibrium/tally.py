"""How the solves of a layer went, counted."""

from dataclasses import asdict, dataclass

from .solution import Solution


@dataclass
class Tally:
    """The solves of an equilibrium since the last `reset`: samples by their result, their steps, and gradients."""

    samples: int = 0
    converged: int = 0
    diverged: int = 0
    steps: int = 0
    """The steps of all samples together."""
    gradients: int = 0
    """The samples whose gradient was solved for."""
    gradients_converged: int = 0

    def note(self, solution: Solution) -> None:
        """Count the samples of a solve."""
        self.samples += len(solution.steps)
        self.converged += int(solution.converged.sum())
        self.diverged += int(solution.diverged.sum())
        self.steps += int(solution.steps.sum())

    def note_gradient(self, solution: Solution) -> None:
        """Count the samples of the linear solve of a gradient."""
        self.gradients += len(solution.steps)
        self.gradients_converged += int(solution.converged.sum())

    @property
    def stopped(self) -> int:
        """The samples that stopped at the most steps."""
        return self.samples - self.converged - self.diverged

    def counts(self) -> dict[str, int]:
        """The counts of samples, steps and gradients, by name."""
        return asdict(self)

    def reset(self) -> None:
        """Set every count back to 0."""
        self.__init__()
