"""What is known of a model's tensors before it runs: types, shapes and small integer values."""

from onnxslim.shapes.expr import Expr, Sym
from onnxslim.shapes.facts import Facts, infer
from onnxslim.shapes.inferred import Dim, hide_misread, say_clearly
from onnxslim.shapes.site import places_of_slice

__all__ = ["Dim", "Expr", "Facts", "Sym", "hide_misread", "infer", "places_of_slice", "say_clearly"]
