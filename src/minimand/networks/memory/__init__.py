"""What a stage keeps of its forward pass for the backward one: everything, its queries, or its last state."""
