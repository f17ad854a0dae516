"""From training with hard thresholds to a network that runs on bits, with the same predictions on every image."""

import torch

import minimand as mm

# A small residual network whose activations are -1 or 1, and whose weights between them are -a or a.
torch.manual_seed(0)
model = mm.create_model("resnet20(depth=3, width=32)", in_channels=1, activation="sign", weight_bits=1)
print(mm.changes(model))

# Thresholds have no slope. Target propagation gives each a target instead, and trains what is before it by that.
data = mm.load_data("digits")
recipe = mm.Recipe(epochs=8, batch_size=32, optimizer=mm.AdamW(1e-2))
result = mm.fit(model, data, method="target_propagation", recipe=recipe)
print(result)

# The packed model counts bits where this one multiplies floats.
packed = mm.pack(model)
print(packed)

images = data.example(count=len(data.test))
with torch.inference_mode():
    hardened_classes, packed_classes = model.eval()(images).argmax(1), packed(images).argmax(1)
print("same predictions:", int((hardened_classes == packed_classes).sum()), "of", len(images))
print("accuracy on bits:", mm.evaluate(packed, data).accuracy)
