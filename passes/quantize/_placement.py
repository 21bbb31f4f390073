"""Where numbers become 8-bit integers, so that onnxruntime computes with them all the way.

Layers (Conv, Gemm, MatMul with constant weights) are chosen by the caller. Carriers are operators
that onnxruntime runs on 8-bit integers too; one is taken where it reads only what layers and
carriers make (or, to add, something else too), and another one of them reads it or there is less to
read behind it. So no operator in the middle of integers computes with floats, and none at the edge
is quantized in vain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxslim.ir import Constant, Graph, Node, Tensor

MOVES: Mapping[str, int] = {
    "Flatten": 10,
    "Gather": 10,
    "MaxPool": 12,
    "Reshape": 10,
    "Resize": 11,
    "Slice": 10,
    "Split": 10,
    "Squeeze": 10,
    "Transpose": 10,
    "Unsqueeze": 10,
}
"""Operators that put out numbers they read, with the opset that lets them read 8-bit integers."""
COMPUTES = (
    *("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "LeakyRelu", "MatMul", "Mul"),
    *("Relu", "Sigmoid"),
)
"""Operators that onnxruntime computes on 8-bit integers."""
_SHRINKING = ("Add", "AveragePool", "GlobalAveragePool", "MaxPool", "Mul")
"""Operators that read more than they put out: integers pay although nobody reads them after."""
_MAKING_FLOATS = ("Gemm", "MatMul")
"""Operators that read integers and may put out floats."""
_FOLDING = ("Add", "Conv", "Gemm")
"""Operators that clip at zero while they requantize, where nobody reads what they had before."""


@dataclass
class Placement:
    """Nodes that compute with integers, and the tensors that are quantized for them."""

    layers: list[Node] = field(default_factory=list)
    carriers: list[Node] = field(default_factory=list)
    ends: dict[Tensor, Node] = field(default_factory=dict)
    """What those nodes put out, behind a Relu or Clip that they take in; the node behind each."""
    tensors: list[Tensor] = field(default_factory=list)
    """What is quantized, in the order it is computed."""
    origins: dict[Tensor, Tensor] = field(default_factory=dict)
    """By tensor that was only moved, what it came from; both have one range."""

    def origin(self, tensor: Tensor) -> Tensor:
        """Return the tensor whose numbers *tensor* holds."""
        while tensor in self.origins:
            tensor = self.origins[tensor]
        return tensor


def place(
    graph: Graph, layers: Collection[Node], floats: Collection[str], pinned: frozenset[int]
) -> Placement:
    """Find the carriers between *layers*, and the tensors to quantize.

    *floats* are the names of the float32 tensors, *pinned* the ids of those that must stay.
    """
    return _Placer(graph, layers, floats, pinned).run()


class _Placer:
    def __init__(
        self,
        graph: Graph,
        layers: Collection[Node],
        floats: Collection[str],
        pinned: frozenset[int],
    ) -> None:
        self.graph, self.floats, self.pinned = graph, floats, pinned
        self.layers = set(layers)
        self.carriers = {n for n in graph.nodes if n not in self.layers and self.can_carry(n)}
        inside = self.layers | self.carriers
        self.folded = {
            clip
            for node in graph.nodes
            if node in inside and node.operator in _FOLDING
            for clip in [self.clip_behind(node)]
            if clip is not None
        }
        self.carriers -= self.folded

    # Single nodes

    def can_carry(self, node: Node) -> bool:
        operator = node.operator
        if operator in MOVES:
            able = self.graph.version >= MOVES[operator] and _moves_only(node)
        else:
            able = operator in COMPUTES and _is_computable(node)
        return able and all(
            not isinstance(t, Constant) and t.name in self.floats
            for t in (*data_inputs(node), *(t for t in node.outputs if t.name))
        )

    def clip_behind(self, node: Node) -> Node | None:
        """Return the Relu or Clip that alone reads *node*."""
        (out, *_) = node.outputs
        readers = out.outputs
        if len(readers) != 1 or id(out) in self.pinned or readers[0].graph is not self.graph:
            return None
        return readers[0] if ceiling(readers[0]) is not None else None

    def ends(self, node: Node) -> list[Tensor]:
        if node.operator in _FOLDING:
            clip = self.clip_behind(node)
            if clip in self.folded:
                return [clip.outputs[0]]
        return [t for t in node.outputs if t.name]

    # All of them

    def run(self) -> Placement:
        while self.shrink():
            pass
        inside = self.layers | self.carriers
        made, found = Placement(), dict[Tensor, None]()
        for node in (n for n in self.graph.nodes if n in inside):
            (made.layers if node in self.layers else made.carriers).append(node)
            found.update(dict.fromkeys(data_inputs(node)))
            ends = self.ends(node)
            made.ends.update(dict.fromkeys(ends, node))
            if node in self.carriers or node.operator == "Conv" or ends[0] not in node.outputs:
                found.update(dict.fromkeys(ends))
            if node.operator in MOVES and node in self.carriers:
                made.origins.update(dict.fromkeys(ends, node.inputs[0]))
        made.tensors = list(found)
        return made

    def shrink(self) -> bool:
        """Drop carriers that stand at an edge; say whether there were any."""
        inside = self.layers | self.carriers
        made = {end for node in inside for end in self.ends(node)}
        read = {t for node in inside for t in data_inputs(node)}
        needed = {t for node in self.layers for t in data_inputs(node)}
        whole = {end for n in inside if n.operator not in _MAKING_FLOATS for end in self.ends(n)}

        def pays(node: Node) -> bool:
            inputs = set(data_inputs(node))
            is_read = not read.isdisjoint(self.ends(node))
            if node.operator == "Add" and is_read:  # rounding one summand is less than
                return not inputs.isdisjoint(made | needed)  # unpacking the other and rounding
            if not inputs <= made | needed:
                return False
            return is_read or (node.operator in _SHRINKING and inputs <= whole)

        edge = {node for node in self.carriers if not pays(node)}
        self.carriers -= edge
        freed = {clip for node in edge for clip in [self.clip_behind(node)] if clip in self.folded}
        self.folded -= freed
        return bool(edge)


def data_inputs(node: Node) -> list[Tensor]:
    """Return what a layer or carrier reads and is no weight, bias or parameter."""
    if node.operator in ("Add", "Concat", "Mul"):
        return list(node.inputs)
    if node.operator == "MatMul":
        return [t for t in node.inputs if not isinstance(t, Constant)]
    return [node.inputs[0]]


def ceiling(node: Node) -> float | None:
    """Return the upper bound of a Relu or of a Clip at zero; None for any other node."""
    if node.operator == "Relu":
        return float(np.inf)
    if node.operator != "Clip":
        return None
    low, high = (_bound(node, slot, name) for slot, name in ((1, "min"), (2, "max")))
    return high if low == 0.0 and high is not None and high > 0 else None


def _bound(node: Node, slot: int, name: str) -> float | None:
    """Return a bound of a Clip, None where it is computed."""
    open_end = float(np.inf if slot == 2 else -np.inf)
    if node.input(slot) is None:
        return float(node.attr(name, open_end))
    value = node.constant(slot)
    return None if value is None else float(value.reshape(()))


def _moves_only(node: Node) -> bool:
    if node.operator == "Resize":
        plain = node.attr("mode", "nearest") == "nearest" and node.attr("antialias", 0) == 0
        return bool(
            plain and node.attr("coordinate_transformation_mode", "") != "tf_crop_and_resize"
        )
    return node.operator != "MaxPool" or len(node.outputs) == 1


def _is_computable(node: Node) -> bool:
    if node.operator == "AveragePool":
        return all(step == 1 for step in node.attr("dilations", ()))
    if node.operator == "Clip":
        return ceiling(node) is not None
    return True


def readers(tensor: Tensor, nodes: Collection[Node]) -> Iterator[tuple[Node, int]]:
    """Yield who of *nodes* reads *tensor* as data, with the slot."""
    for node in dict.fromkeys(tensor.outputs):
        if node in nodes:
            yield from ((node, slot) for slot, t in enumerate(node.inputs) if t is tensor)
