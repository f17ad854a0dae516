"""A first-order algorithm of one's own: written once, certified, run as a network and trained.

The step looks two iterates back: x_next = x - s grad(x) + m (x - previous) + n (previous - before).
"""

import torch

import minimand as mm


class TwoMomenta(mm.Algorithm):
    """Heavy ball with a second momentum, on the difference before the last one."""

    step_size: mm.Coefficient = 1.0
    momentum: mm.Coefficient = 0.5
    second: mm.Coefficient = 0.2

    def start(self, x):
        return x, x, x

    def step(self, state, gradient, k):
        x, previous, before = state
        velocity = self.momentum(k) * (x - previous) + self.second(k) * (previous - before)
        return x - self.step_size(k) * gradient(x) + velocity, x, previous

    def read(self, state):
        return state[0]


# What its networks can express, before a network is built.
print(mm.certify(TwoMomenta(), depth=9))
print()

# Whether somebody else's network is the same: a linear multistep method is, and heavy ball without the second momentum.
print("with both momenta:", mm.identify(TwoMomenta()).algorithm)
print("with the first alone:", mm.identify(TwoMomenta(second=0.0)).algorithm)

# The same class with tensors in the place of symbols: three stages of residual blocks, trained on 8 x 8 digits.
torch.manual_seed(0)
model = mm.create_model("preact_resnet20(depth=3, width=16)", TwoMomenta(), in_channels=1)
print(mm.fit(model, "digits", recipe=mm.Recipe(epochs=3, batch_size=32, optimizer=mm.AdamW(1e-2))))

# Coefficients are learnable, one for each layer, between bounds.
learnable = TwoMomenta(momentum=mm.Learnable(0.5, 0, 0.9), second=mm.Learnable(0.2, -0.5, 0.5))
model = mm.create_model("preact_resnet20(depth=3, width=16)", learnable, in_channels=1)
print(mm.fit(model, "digits", recipe=mm.Recipe(epochs=3, batch_size=32, optimizer=mm.AdamW(1e-2))))
