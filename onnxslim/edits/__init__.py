"""Edits that change what a model is, because the user asks: its ends, or its float type."""

from onnxslim.edits.ends import cut
from onnxslim.edits.floats import convert_floats

__all__ = ["convert_floats", "cut"]
