"""What a model costs before it runs: operators, parameters, bytes, multiply-accumulates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxslim.ir import Constant, Model, Node, Opaque, Tensor, Variable, is_deterministic
from onnxslim.shapes import Dim, Facts, infer


@dataclass(frozen=True)
class Stats:
    """The size of a model.

    ``nodes`` counts operators, those of subgraphs and function bodies included, but no constants;
    ``ops`` counts them by name. ``parameters`` are the elements of all constants in the file.
    ``macs`` are the multiply-accumulates of one run in which every unknown dimension is 1, each
    subgraph runs once, and function bodies do not count, nor does what depends on constants alone.
    """

    nodes: int
    ops: dict[str, int]
    parameters: int
    bytes: int
    macs: int


def measure(model: Model, facts: Facts | None = None, size: int | None = None) -> Stats:
    """Measure *model*; give its *facts* and its *size* in bytes where they are known already."""
    facts = infer(model) if facts is None else facts
    nodes = [node for node in model.nodes() if node.operator != "Constant"]
    ops = Counter(node.operator for node in nodes)
    return Stats(
        nodes=len(nodes),
        ops=dict(sorted(ops.items())),
        parameters=parameters(model),
        bytes=model.size() if size is None else size,
        macs=total_macs(model, facts),
    )


@dataclass(frozen=True)
class Layer:
    """What a node costs, with the nodes that unpack constants for it alone."""

    name: str
    op: str
    parameters: int
    """Stored elements of the constants that it alone reads."""
    bytes: int
    macs: int


def layers(model: Model, facts: Facts | None = None) -> list[Layer]:
    """List the nodes that hold parameters or multiply, in order."""
    facts = infer(model) if facts is None else facts
    packed: dict[Tensor, tuple[int, int]] = {}
    found = list[Layer]()
    for node in model.nodes():
        if node.operator == "Constant":
            continue
        size, held = (sum(pair) for pair in zip(*_own(node, packed), strict=True))
        if held and len(node.outputs) == 1 and _unpacks(node, packed):
            packed[node.outputs[0]] = size, held
        elif size or macs(node, facts):
            name = node.name or next((t.name for t in node.outputs), node.operator)
            found.append(Layer(name, node.operator, size, held, macs(node, facts)))
    return found


def _own(node: Node, packed: Mapping[Tensor, tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the elements and bytes of each constant that *node* alone reads."""
    yield 0, 0
    for tensor in dict.fromkeys(node.inputs):
        if len(tensor.outputs) == 1:
            if isinstance(tensor, Constant):
                yield tensor.size, tensor.nbytes
            elif tensor in packed:
                yield packed[tensor]


def _unpacks(node: Node, packed: Mapping[Tensor, tuple[int, int]]) -> bool:
    """Say whether *node* computes from constants for a single other one."""
    known = all(isinstance(t, Constant) or t in packed for t in node.inputs if t.name)
    return known and len(node.outputs[0].outputs) == 1


def total_macs(model: Model, facts: Facts) -> int:
    """Return the multiply-accumulates of one run: not of what is computed once, at load."""
    total = 0
    known: set[Tensor] = set()
    for graph in model.graphs():
        for node in graph.nodes:
            if _is_fixed(node, known):
                known.update(node.outputs)
            else:
                total += macs(node, facts)
    return total


def _is_fixed(node: Node, known: set[Tensor]) -> bool:
    """Say whether *node* computes the same in every run; bodies read more than its inputs."""
    if not is_deterministic(node) or node.subgraphs():
        return False
    return all(isinstance(t, Constant) or not t.name or t in known for t in node.inputs)


# Parameters ---------------------------------------------------------------------------------------


def parameters(model: Model) -> int:
    """Count the stored elements of initializers and Constant nodes."""
    stored = [tensor.size for tensor in model.constants()]
    for graph in model.graphs():
        stored += [_default_size(t) for t in graph.initializers if isinstance(t, Variable)]
    return sum(stored) + sum(_unread(model))


def _default_size(tensor: Variable) -> int:
    """Count an initializer that is no constant: overridable or sparse."""
    default = tensor.default
    if isinstance(default, onnx.SparseTensorProto):
        default = default.values
    return 0 if default is None else math.prod(default.dims)


def _unread(model: Model) -> Iterator[int]:
    """Count the Constant nodes whose values have no Python form: sparse ones and strings."""
    for node in model.nodes():
        if node.operator == "Constant" and node.outputs and isinstance(node.outputs[0], Variable):
            for value in node.attrs.values():
                if isinstance(value, Opaque):
                    yield math.prod(value.proto.sparse_tensor.values.dims or [0])
                else:
                    yield len(value) if isinstance(value, list) else 1


# Multiply-accumulates -----------------------------------------------------------------------------


def macs(node: Node, facts: Facts) -> int:
    """Return the multiply-accumulates of *node*; 0 where shapes are missing or there are none."""
    counter = _COUNTERS.get(node.operator)
    if counter is None:
        return 0
    try:
        return counter(node, facts)
    except _Unknown:
        return 0


class _Unknown(Exception):
    """A shape that is needed is not known."""


def _dims(node: Node, facts: Facts, slot: int) -> tuple[int, ...]:
    """Return the shape of an input, unknown dimensions as 1."""
    tensor = node.input(slot)
    return _numbers(facts, None if tensor is None else facts.shape(tensor))


def _result(node: Node, facts: Facts) -> tuple[int, ...]:
    return _numbers(facts, facts.shape(node.outputs[0]))


def _numbers(facts: Facts, shape: Sequence[Dim] | None) -> tuple[int, ...]:
    if shape is None:
        raise _Unknown
    return tuple(dim if isinstance(dim, int) else max(1, facts.extent(dim)) for dim in shape)


_Counter = Callable[[Node, Facts], int]


def _convolution(weight: int) -> _Counter:
    """Every output element needs the kernel once."""
    return lambda node, facts: (
        math.prod(_result(node, facts)) * math.prod(_dims(node, facts, weight)[1:])
    )


def _transposed_convolution(node: Node, facts: Facts) -> int:
    """Every input element meets the kernel once."""
    return math.prod(_dims(node, facts, 0)) * math.prod(_dims(node, facts, 1)[1:])


def _matmul(right: int) -> _Counter:
    """Count a matrix product whose right operand is input *right*."""

    def count(node: Node, facts: Facts) -> int:
        left, other = _dims(node, facts, 0), _dims(node, facts, right)
        if not left or not other:
            raise _Unknown
        inner = max(left[-1], other[-2] if len(other) > 1 else other[0])
        rows = left[-2] if len(left) > 1 else 1
        columns = other[-1] if len(other) > 1 else 1
        return math.prod(_broadcast(left[:-2], other[:-2])) * rows * inner * columns

    return count


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    return tuple(a if b == 1 else b for a, b in pairs)


def _gemm(node: Node, facts: Facts) -> int:
    left, right = _dims(node, facts, 0), _dims(node, facts, 1)
    if len(left) != 2 or len(right) != 2:
        raise _Unknown
    rows, inner = reversed(left) if node.attr("transA", 0) else left
    other, columns = reversed(right) if node.attr("transB", 0) else right
    return rows * max(inner, other) * columns


def _recurrent(node: Node, facts: Facts) -> int:
    """Every step of every sequence needs both weight matrices once."""
    steps = math.prod(_dims(node, facts, 0)[:2])
    return steps * sum(math.prod(_dims(node, facts, slot)) for slot in (1, 2))


def _einsum(node: Node, facts: Facts) -> int:
    """Count a contraction of two operands: the product of all its index ranges."""
    equation = str(node.attr("equation", "")).replace(" ", "")
    operands = equation.split("->")[0].split(",")
    if len(operands) != 2:
        raise _Unknown
    extent: dict[str, int] = {}
    for slot, labels in enumerate(operands):
        shape = _dims(node, facts, slot)
        for label, dim in zip(_spelled_out(labels, len(shape)), shape, strict=True):
            extent[label] = max(extent.get(label, 1), dim)
    return math.prod(extent.values())


def _spelled_out(labels: str, rank: int) -> list[str]:
    """Name the dimensions behind an ellipsis by their distance from its end."""
    before, dots, after = labels.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise _Unknown
    return [*before, *(f"...{i}" for i in reversed(range(hidden))), *after]


def _attention(node: Node, facts: Facts) -> int:
    """Count queries by keys and weights by values, for every head."""
    query, key, value = (_dims(node, facts, slot) for slot in range(3))
    if len(query) == 3:
        heads = int(node.attr("q_num_heads", 1))
        width = query[2] // heads
        depth = value[2] // int(node.attr("kv_num_heads", 1))
    elif len(query) == 4:
        heads, width, depth = query[1], query[3], value[3]
    else:
        raise _Unknown
    past = _dims(node, facts, 4)[2] if node.input(4) is not None else 0
    return query[0] * heads * query[-2] * (key[-2] + past) * (width + depth)


_COUNTERS: dict[str, _Counter] = {
    "Attention": _attention,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _matmul(1),
    "MatMulInteger": _matmul(1),
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _matmul(3),
    "RNN": _recurrent,
    "com.microsoft::DynamicQuantizeLSTM": _recurrent,
}
