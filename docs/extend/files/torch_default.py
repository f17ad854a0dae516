"""The weights that torch's layers start from."""

from torch import nn

from minimand.trainability import Job, scheme


@scheme("torch_default", traced=False)
def torch_default(job: Job) -> None:
    """Uniform on +-1 / sqrt(fan_in), biases 0: the weights that torch.nn's Linear and Conv start from."""
    for layer in job.layers:
        job.fill(
            layer,
            "+-1 / sqrt(fan_in)",
            lambda weight, block: nn.init.uniform_(
                weight, -(block.fan_in**-0.5), block.fan_in**-0.5, generator=job.generator
            ),
        )
