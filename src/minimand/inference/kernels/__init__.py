"""Arithmetic on activations of one bit: kernels in C++, and the same in torch alone."""
