"""An algorithm around the blocks of a trained model of timm: nothing changes until momentum does.

The weights here are random, so that nothing is downloaded; `pretrained=True` in their place changes no other line.
"""

import minimand.vision  # isort: skip  # before timm: it makes torchvision work beside a CPU build of torch

import timm
import torch

import minimand as mm

torch.manual_seed(0)
model = timm.create_model("resnet34", pretrained=False, num_classes=10, zero_init_last=False).eval()
images = torch.randn(2, 3, 64, 64)


@torch.no_grad()
def logits():
    return model(images)


before = logits()

# Gradient descent with T = the block, skip included, is the model as it stands: to the last bit.
mm.rewire(model, "gradient_descent")
print("gradient descent, as before:", torch.equal(logits(), before))
mm.changes(model).undo()

# Heavy ball at momentum 0 is too; with a momentum the same weights are another network.
mm.rewire(model, "heavy_ball(momentum=0)")
print("heavy ball at momentum 0, largest difference:", (logits() - before).abs().max().item())
mm.changes(model).undo()
mm.rewire(model, "heavy_ball(momentum=0.3)")
print(mm.changes(model))
print("heavy ball at momentum 0.3, largest difference:", (logits() - before).abs().max().item())
mm.changes(model).undo()
print("undone, as before:", torch.equal(logits(), before))

# To be fine-tuned from there: a momentum for each layer that begins at 0 and learns.
mm.rewire(model, "heavy_ball(momentum=Learnable(0, -0.5, 0.9))")
torch.nn.functional.cross_entropy(model(images), torch.tensor([3, 7])).backward()
momenta = [value for name, value in model.named_parameters() if "rewired_momentum" in name]
print("learnable momenta:", sum(value.numel() for value in momenta), "in", len(momenta), "runs of blocks")
print("each has a gradient:", all(value.grad is not None and value.grad.any() for value in momenta))
