"""What is known of a model's tensors before it runs: types, shapes and small integer values."""

from onnxslim.shapes.facts import Facts, infer
from onnxslim.shapes.inferred import Dim

__all__ = ["Dim", "Facts", "infer"]
