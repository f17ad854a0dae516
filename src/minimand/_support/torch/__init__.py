"""What every package may need of torch: its private parts, modes, random states, devices, torchvision beside it."""
