"""Language models: their families, text that goes on, and weights of transformers."""
