"""A network that does not train, the reason, the call that repairs it, and the same network trained."""

import torch
from torch import nn

import minimand as mm

DEPTH, WIDTH = 40, 64


def plain_network():
    """Forty tanh layers whose weights are a little too large: each layer multiplies gradients by the same factor."""
    torch.manual_seed(0)
    sizes = [64, *[WIDTH] * (DEPTH - 1)]
    layers = []
    for fan_in in sizes:
        linear = nn.Linear(fan_in, WIDTH)
        nn.init.normal_(linear.weight, std=2 / fan_in**0.5)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(WIDTH, 10))


data = mm.load_data("digits")
batch = data.example(count=64)
recipe = mm.Recipe(epochs=5, batch_size=64, optimizer=mm.SGD(0.02))

model = plain_network()
print("as it is:", mm.fit(model, data, recipe=recipe))

# One batch forward and backward says why, in which layer, and what repairs it.
model = plain_network()
report = mm.diagnose(model, batch)
print(report.verdict)

# The repair is a call; it is made here as the report says it.
mm.initialize(model, "critical", batch=batch)
print("after the repair:", mm.diagnose(model, batch).verdict.code)
print("repaired:", mm.fit(model, data, recipe=recipe))
