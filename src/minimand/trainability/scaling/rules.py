"""How settings of a parameter follow from width, and from the gains of the skeleton around it.

The output of a residual network moves by the sum of what its branches change, each by its gain g. With the multiplier a
on every branch, S1 = sum |g| and S2 = sqrt(sum g^2), the start spreads by a S2, and one step of rate lr moves it by
a lr S1 where updates have a set size (Adam, Muon), by a^2 lr S2^2 where they follow the gradient (SGD).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..._support.errors import MinimandError
from ...recipes.parameter_groups import ScalingFactors
from ..measure.tracing import Branch

DepthRule = Literal["complete", "diverse"]
"""What depth keeps: the nonlinear change of every branch in a step (CompleteP, Dey et al. 2025), or the spread of the
start (depth-muP, Yang et al. 2023)."""


@dataclass(frozen=True)
class GainSums:
    """The gains of the branches of a network, summed: in a step all branches move alike, at the start independently."""

    linear: float = 1.0
    """S1, the sum of absolute gains."""
    square: float = 1.0
    """S2, the root of the sum of squared gains."""
    mean: float = 1.0
    """The mean of absolute gains over branches."""

    @classmethod
    def of(cls, branches: Sequence[Branch]) -> "GainSums":
        """The sums over the branches of a network, of which it has one at least.

        Raises:
            MinimandError: no branch reaches the output, but through a normalized part of the state, as a velocity.
        """
        linear = sum(branch.reach for branch in branches)
        if not linear:
            raise MinimandError(
                "the gains of all branches are 0: they reach the output through a normalized part of the state alone, "
                "whose size they do not set, so that no rule for depth follows. Expected 'mup', which scales by width "
                "alone, or an algorithm without a map oracle, such as general_momentum."
            )
        return cls(linear, math.sqrt(sum(branch.gain**2 for branch in branches)), linear / len(branches))


UNIT = GainSums()
"""The sums of a network of one branch whose gain is 1: the base where nobody names one."""


@dataclass(frozen=True)
class WidthRatios:
    """The ratios of a layer's inputs and outputs to those of the same layer in the base network."""

    inputs: float = 1.0
    outputs: float = 1.0

    def factors(self) -> ScalingFactors:
        """The factors of muP (Yang et al. 2022), for weights that are used as they are, without a multiplier."""
        return ScalingFactors(self.outputs / self.inputs, 1 / self.inputs, 1.0, 1 / self.outputs)


@dataclass(frozen=True)
class DepthScale:
    """What a depth rule sets in a network of given gains, relative to the base network."""

    multiplier: float
    """The factor on what each branch answers."""
    sgd: float
    """The factor on the rate of parameters in branches where updates follow the gradient."""
    set_size: float
    """The factor on the rate of parameters in branches where updates have a set size: Adam's and Muon's."""
    base_mean: float
    """The mean gain of the base network's branches."""
    mean: float
    """The mean gain of the network's own branches."""

    @classmethod
    def by(cls, rule: DepthRule, here: GainSums, base: GainSums = UNIT) -> "DepthScale":
        """The scale by which a step moves the output as far as it does in the base network."""
        a = base.linear / here.linear if rule == "complete" else base.square / here.square
        sgd = (base.square / (a * here.square)) ** 2
        return cls(a, sgd, base.linear / (a * here.linear), base.mean, here.mean)

    def inside(self, branch: Branch, width: ScalingFactors) -> ScalingFactors:
        """The factors of a parameter in a branch whose factors by width are given."""
        # A branch that reaches the output through other branches alone has gradients too, of about their size.
        epsilon = self.multiplier * (branch.reach or self.mean) / self.base_mean
        return ScalingFactors(
            width.sgd * self.sgd, width.adam * self.set_size, width.muon * self.set_size, width.epsilon * epsilon
        )

    def at_end(self, branch: Branch, width: ScalingFactors) -> ScalingFactors:
        """The factors of a parameter that ends a branch, into which the multiplier is absorbed."""
        return self.inside(branch, width).absorbing(self.multiplier)
