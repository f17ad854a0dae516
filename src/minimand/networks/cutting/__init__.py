"""Models of anybody taken apart: repeated blocks, what runs in a row, and the programs between them."""
