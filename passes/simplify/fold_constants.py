"""What can be computed before the model runs.

Folding never makes the file larger: a value takes the place of its node only if it takes no more
bytes than all that it makes superfluous. So weights that are stored packed and unpacked by a few
nodes stay packed. DequantizeLinear is never folded: onnxruntime needs it where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Constant, Graph, Model, Node, Tensor
from onnxslim.passes.simplify._values import NO_NODE, compute_by_constant
from onnxslim.shapes import Facts

_KEPT = frozenset({"Constant", "DequantizeLinear", "DynamicQuantizeLinear"})
_GROWING = frozenset(
    {"CenterCropPad", "Compress", "ConstantOfShape", "Einsum", "Expand", "EyeLike", "MatMul"}
    | {"NonZero", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}
)
"""Operators whose results can be far larger than their inputs: folded when the size is known."""
_SMALL = 1 << 10
"""Values of fewer bytes are computed to see how many they are."""
_LARGEST_CONE = 2000
"""How many nodes are looked at to find what one value makes superfluous."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace nodes whose inputs are all constants by their values, unless the file would grow."""

    name = "fold-constants"
    effect = Effect.ROUNDING

    max_bytes: int = 1 << 28

    def apply(self, model: Model, context: Context) -> int:
        """Fold each graph, outermost first; values above `max_bytes` bytes are not computed."""
        pinned = model.pinned()
        return sum(
            _Folding(model, root, graph, pinned, context, self.max_bytes).run()
            for root in (model.graph, *model.functions)
            for graph in list(ir.walk(root))
        )


class _Folding:
    """Constant folding in one graph."""

    def __init__(
        self, model: Model, root: Graph, graph: Graph, pinned: frozenset[int], context: Context,
        max_bytes: int,
    ) -> None:  # fmt: skip
        self.model, self.graph, self.pinned = model, graph, pinned
        self.context, self.max_bytes = context, max_bytes
        self.values: dict[Tensor, Array] = {}
        self.dead: set[Node] = set()
        self.in_function = root is not model.graph
        self.inline = model.ir_version < 4 or self.in_function

    def run(self) -> int:
        nodes = self._foldable()
        if not nodes:
            return 0
        self._evaluate(nodes, [t for node in nodes for t in node.outputs if self._is_cheap(t)])
        chosen = self._choose(nodes)
        wanted = [t for node in chosen for t in self._needed(node) if t not in self.values]
        self._evaluate([node for node in nodes if node in self.dead], wanted)
        changes = sum(self._fold(node) for node in chosen)
        if changes:
            self.graph.compact()
        return changes

    # What can be folded

    def _foldable(self) -> list[Node]:
        """Return the nodes that depend on constants alone, in order."""
        made: set[Tensor] = set()
        found = []
        for node in self.graph.nodes:
            if node.operator in _KEPT or not ir.is_deterministic(node):
                continue
            if not all(isinstance(t, Constant) or not t.name or t in made for t in node.inputs):
                continue
            reason = self._refusal(node)
            if reason is not None:
                self.context.decline(node, reason)
                continue
            found.append(node)
            made.update(node.outputs)
        return found

    def _refusal(self, node: Node) -> str | None:
        if ir.has_parameters(node):
            return "an attribute is set by the caller of the function"
        if any(map(self._is_text, (*node.inputs, *node.outputs))):
            return "text is not folded"
        if not all(map(self._is_possible, node.outputs)):
            return NO_NODE
        sizes = [self._size(tensor) for tensor in node.outputs if tensor.name]
        if any(size is not None and size > self.max_bytes for size in sizes):
            return f"its value would take more than {self.max_bytes} bytes"
        if node.operator in _GROWING and None in sizes:
            return "how large its value would be is not known"
        return None

    def _is_possible(self, tensor: Tensor) -> bool:
        """Say whether a constant can take the place of *tensor*."""
        must_be_node = id(tensor) in self.pinned or self.in_function
        kind = self.facts.elem_type(tensor)
        return not (must_be_node and kind) or ir.constant_holds(
            ir.numpy_type(kind), self.graph.version
        )

    @property
    def facts(self) -> Facts:
        return self.context.facts(self.model)

    def _size(self, tensor: Tensor) -> int | None:
        """Return the bytes of a value, from the value itself or from its inferred type."""
        if tensor in self.values:
            value = ir.constant(tensor.name, self.values[tensor])
            return self._in_place(tensor, ir.initializer_bytes(value))
        shape, kind = self.facts.static(tensor), self.facts.elem_type(tensor)
        if shape is None or not kind:
            return None
        return self._in_place(tensor, ir.raw_bytes(tensor.name, kind, shape))

    def _is_cheap(self, tensor: Tensor) -> bool:
        """Say whether to compute a value early, to know its size: small integers take less."""
        return (self._size(tensor) or 0) < _SMALL

    def _in_place(self, tensor: Tensor, size: int) -> int:
        """Return the bytes of an initializer of *size* in the form that *tensor* must have."""
        if self.inline or id(tensor) in self.pinned:
            return ir.constant_node_bytes(tensor.inputs[0].name or "", size)
        return size

    def _is_text(self, tensor: Tensor) -> bool:
        return self.facts.elem_type(tensor) == TensorProto.STRING

    def _evaluate(self, nodes: list[Node], wanted: list[Tensor]) -> None:
        wanted = [tensor for tensor in wanted if tensor.name]
        if wanted:
            found = self.context.evaluate(self.model, nodes, wanted)
            self.values.update((t, v) for t, v in found.items() if v.dtype.kind not in "OSU")

    # What pays

    def _choose(self, nodes: list[Node]) -> list[Node]:
        """Choose the nodes to replace, from the results towards their sources.

        What is chosen takes all that only it needs along; where a value does not pay, the values
        that it is made from are considered instead.
        """
        chosen = []
        for node in reversed(nodes):
            needed = self._needed(node)
            if node in self.dead or not needed:
                continue
            sizes = [self._size(tensor) for tensor in needed]
            if None in sizes:
                self.context.decline(node, "onnxruntime cannot compute its value")
                continue
            cost = sum(size for size in sizes if size is not None)
            cone, freed = self._cone(node)
            if cost > freed:
                self.context.decline(node, f"the file would grow by {cost - freed} bytes")
                continue
            self.dead |= cone
            chosen.append(node)
        return chosen

    def _needed(self, node: Node) -> list[Tensor]:
        """Return the outputs that something which stays reads."""
        return [
            tensor
            for tensor in node.outputs
            if id(tensor) in self.pinned
            or any(reader not in self.dead or reader is node for reader in tensor.outputs)
        ]

    def _cone(self, node: Node) -> tuple[set[Node], int]:
        """Return the nodes that only *node* needs, itself included, and the bytes they free."""
        cone, queue, freed, seen = {node}, [node], 0, set[Tensor]()
        while queue and len(cone) < _LARGEST_CONE:
            current = queue.pop()
            freed += ir.node_bytes(current)
            for tensor in current.inputs:
                if tensor in seen or not self._only_for(tensor, cone):
                    continue
                source = ir.producer(tensor)
                if source is None:
                    seen.add(tensor)
                    freed += ir.initializer_bytes(tensor) if isinstance(tensor, Constant) else 0
                elif all(self._only_for(output, cone) for output in source.outputs):
                    seen.add(tensor)
                    cone.add(source)
                    queue.append(source)
        return cone, freed

    def _only_for(self, tensor: Tensor, cone: set[Node]) -> bool:
        return id(tensor) not in self.pinned and all(
            reader in cone or reader in self.dead for reader in tensor.outputs
        )

    # Folding

    def _fold(self, node: Node) -> int:
        """Turn the needed outputs of *node* into constants and let go of the rest."""
        needed = [tensor for tensor in node.outputs if tensor.outputs or id(tensor) in self.pinned]
        if not all(tensor in self.values for tensor in needed):
            self.context.decline(node, "onnxruntime cannot compute its value")
            return 0
        for tensor in needed:
            compute_by_constant(node, tensor, self.values[tensor], self.graph, self.pinned)
        ir.erase([node], self.pinned)
        return 1
