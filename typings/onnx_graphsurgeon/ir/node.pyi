from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_graphsurgeon.ir.graph import Graph
from onnx_graphsurgeon.ir.tensor import Tensor

class Node:
    @dataclass
    class AttributeRef:
        name: str
        type: type

    op: str
    name: str
    domain: str | None
    attrs: dict[str, Any]
    # Lists of Any, so that subclasses may narrow them: `inputs: list[MyTensor]`.
    inputs: list[Any]
    outputs: list[Any]
    def __init__(
        self,
        op: str,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
        inputs: Sequence[Tensor] | None = None,
        outputs: Sequence[Tensor] | None = None,
        domain: str | None = None,
    ) -> None: ...
    def i(self, tensor_idx: int = 0, producer_idx: int = 0) -> Any: ...
    def o(self, consumer_idx: int = 0, tensor_idx: int = 0) -> Any: ...
    def subgraphs(self, recursive: bool = False) -> Iterator[Graph]: ...
    def __eq__(self, other: object) -> bool: ...
