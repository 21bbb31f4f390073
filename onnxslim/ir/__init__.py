"""The graph that passes rewrite; the only importer of onnx-graphsurgeon."""

from onnxslim.errors import Declined
from onnxslim.ir.declarations import change_elem_type, declare, retype, with_elem_type
from onnxslim.ir.defaults import OVERRIDABLE, freeze, is_overridable, overridable
from onnxslim.ir.garbage import collect_young, no_collection
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
from onnxslim.ir.index import Index
from onnxslim.ir.inline import Call, Scope, absorb
from onnxslim.ir.model import Model, Names, fix_input_shapes
from onnxslim.ir.operators import (
    constant_holds,
    has_parameters,
    is_deterministic,
    is_inference_dropout,
)
from onnxslim.ir.sizes import (
    constant_node_bytes,
    initializer_bytes,
    node_bytes,
    raw_bytes,
    renaming_bytes,
    stored_bytes,
)
from onnxslim.ir.surgery import (
    captured,
    erase,
    is_used,
    producer,
    release,
    replace_uses,
    set_input,
    set_inputs,
    set_output,
    substitute,
    walk,
)
from onnxslim.ir.weights import Array, Store, elem_type, numpy_type, replace_file, spooled

__all__ = [
    "OVERRIDABLE",
    "STANDARD_DOMAINS",
    "Array",
    "Call",
    "Constant",
    "Declined",
    "Function",
    "Graph",
    "Index",
    "Model",
    "Names",
    "Node",
    "Opaque",
    "Scope",
    "Store",
    "Tensor",
    "Variable",
    "absent",
    "absorb",
    "captured",
    "change_elem_type",
    "collect_young",
    "constant",
    "constant_holds",
    "constant_node_bytes",
    "declare",
    "elem_type",
    "erase",
    "fix_input_shapes",
    "freeze",
    "has_parameters",
    "initializer_bytes",
    "is_deterministic",
    "is_inference_dropout",
    "is_overridable",
    "is_used",
    "no_collection",
    "node_bytes",
    "numpy_type",
    "overridable",
    "producer",
    "raw_bytes",
    "release",
    "renaming_bytes",
    "replace_file",
    "replace_uses",
    "retype",
    "set_input",
    "set_inputs",
    "set_output",
    "spooled",
    "stored_bytes",
    "substitute",
    "walk",
    "with_elem_type",
]
