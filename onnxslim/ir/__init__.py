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
from onnxslim.ir.inline import Call, Scope, absorb
from onnxslim.ir.model import Model, Names, fix_input_shapes
from onnxslim.ir.operators import (
    constant_holds,
    has_parameters,
    is_deterministic,
    is_inference_dropout,
)
from onnxslim.ir.sizes import constant_node_bytes, initializer_bytes, node_bytes, raw_bytes
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
from onnxslim.ir.weights import Array, elem_type, numpy_type, replace_file

__all__ = [
    "STANDARD_DOMAINS",
    "Array",
    "Call",
    "Constant",
    "Declined",
    "Function",
    "Graph",
    "Model",
    "Names",
    "Node",
    "Opaque",
    "Scope",
    "Tensor",
    "Variable",
    "absent",
    "absorb",
    "constant",
    "constant_holds",
    "constant_node_bytes",
    "elem_type",
    "erase",
    "fix_input_shapes",
    "has_parameters",
    "initializer_bytes",
    "is_deterministic",
    "is_inference_dropout",
    "is_used",
    "node_bytes",
    "numpy_type",
    "producer",
    "raw_bytes",
    "release",
    "replace_file",
    "replace_uses",
    "set_inputs",
    "substitute",
    "walk",
]
