"""Zeros in place of the weights that matter least."""
