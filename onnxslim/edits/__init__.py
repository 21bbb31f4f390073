"""Edits that change what a model is, because the user asks: its ends, float type or constants."""

from onnxslim.edits.ends import cut
from onnxslim.edits.floats import convert_floats
from onnxslim.edits.frozen import freeze_initializers

__all__ = ["convert_floats", "cut", "freeze_initializers"]
