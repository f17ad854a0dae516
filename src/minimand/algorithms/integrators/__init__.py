"""Methods that integrate the gradient flow, or ask more than once a step."""
