"""Text as data: documents, tokenizers, memory-mapped token files, and windows of them."""
