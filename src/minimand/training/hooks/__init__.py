"""What a training step does beside the method: one hook a file, called by the loop at named moments."""
