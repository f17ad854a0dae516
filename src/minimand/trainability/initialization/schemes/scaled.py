"""Scaling rules as schemes: the weights of one, and its factors on the rates of the optimizer."""

from ...._support.checks import check_choice
from ...scaling.parametrize import parametrize_model
from ...scaling.rules import DepthRule
from ..scheme import Job, scheme


@scheme("mup", references=("he2015delving", "yang2022tensor"))
def mup(job: Job) -> None:
    """Kaiming weights, the last layer smaller, and rates that fit any width: muP (Yang et al., 2022).

    With Adam hidden weights move by the rate times 64 / fan_in, so that a rate is that of layers of 64 channels.
    """
    parametrize_model(job, None)


@scheme(
    "complete_p",
    needs=("branches",),
    references=("he2015delving", "yang2022tensor", "yang2023depth", "dey2025completep"),
)
def complete_p(job: Job, rule: DepthRule = "complete") -> None:
    """muP's weights and rates, and each branch over the sum of all gains: one rate for any width, depth and skeleton.

    For ResNet that is CompleteP, 1 / depth (Dey et al., 2025). With "diverse" it is the root of the sum of squares,
    depth-muP's 1 / sqrt(depth) (Yang et al., 2023), and the rate falls with depth.
    """
    check_choice("rule", rule, DepthRule)
    parametrize_model(job, rule)
