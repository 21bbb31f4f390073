from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from onnx_graphsurgeon.ir.function import Function
from onnx_graphsurgeon.ir.node import Node
from onnx_graphsurgeon.ir.tensor import Tensor

# The library also looks unknown attributes up among registered functions. Leaving that out
# lets a misspelt attribute be an error.
class Graph:
    DEFAULT_OPSET: int
    # Lists of Any, so that subclasses may narrow them: `nodes: list[MyNode]`.
    nodes: list[Any]
    inputs: list[Any]
    outputs: list[Any]
    name: str
    doc_string: str
    opset: int
    import_domains: Any
    producer_name: str
    producer_version: str
    ir_version: int | None
    name_idx: int
    _functions: list[Any]
    def __init__(
        self,
        nodes: Sequence[Node] | None = None,
        inputs: Sequence[Tensor] | None = None,
        outputs: Sequence[Tensor] | None = None,
        name: str | None = None,
        doc_string: str | None = None,
        opset: int | None = None,
        import_domains: Sequence[onnx.OperatorSetIdProto] | None = None,
        producer_name: str | None = None,
        producer_version: str | None = None,
        functions: Sequence[Function] | None = None,
        ir_version: int | None = None,
    ) -> None: ...
    @property
    def functions(self) -> list[Any]: ...
    @functions.setter
    def functions(self, new_fns: Sequence[Function]) -> None: ...
    def subgraphs(self, recursive: bool = False) -> Iterator[Graph]: ...
    def tensors(self, check_duplicates: bool = False) -> dict[str, Any]: ...
    def __eq__(self, other: object) -> bool: ...
