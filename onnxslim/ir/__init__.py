"""The graph that passes rewrite; the only importer of onnx-graphsurgeon."""

from onnxslim.errors import Declined
from onnxslim.ir.graph import (
    STANDARD_DOMAINS,
    Constant,
    Function,
    Graph,
    Node,
    Opaque,
    Tensor,
    Variable,
    absent,
    constant,
)
from onnxslim.ir.model import Model, Names
from onnxslim.ir.surgery import (
    erase,
    is_used,
    producer,
    release,
    replace_uses,
    set_inputs,
    substitute,
    walk,
)
from onnxslim.ir.weights import Array, elem_type, numpy_type

__all__ = [
    "STANDARD_DOMAINS",
    "Array",
    "Constant",
    "Declined",
    "Function",
    "Graph",
    "Model",
    "Names",
    "Node",
    "Opaque",
    "Tensor",
    "Variable",
    "absent",
    "constant",
    "elem_type",
    "erase",
    "is_used",
    "numpy_type",
    "producer",
    "release",
    "replace_uses",
    "set_inputs",
    "substitute",
    "walk",
]
