"""Numerical kernels on contiguous arrays: no IO, no logging, no randomness."""
