"""Weights that share values, and files without what nobody needs."""
