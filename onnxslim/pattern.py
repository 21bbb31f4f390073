"""Say what to look for: small expressions that match pieces of an ONNX graph.

``op.Add(op.MatMul("x", const("w")), const("b"))`` reads as it looks. A string captures any tensor,
``const`` captures weights, a number matches a constant that holds nothing but that number, ``opt``
marks an operand that may be absent, ``either`` lists alternatives, ``rest`` takes all that follow.
The same name twice must be the same tensor twice. ``op`` knows ONNX's own operators;
``domain("com.microsoft")`` any other's.
Operand order does not matter where the operator commutes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx.defs

from onnxslim.errors import Declined, PatternError
from onnxslim.ir import OVERRIDABLE, Array, Constant, Node, Tensor, is_overridable, producer

COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Max", "Min", "Sum", "Mean", "Equal"}
    | {"BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)

Operand: TypeAlias = "Pattern | str | float | int"


@dataclass(frozen=True)
class Var:
    """Capture any tensor."""

    name: str


@dataclass(frozen=True)
class Const:
    """Capture a constant; with *value*, only one that holds nothing but that number."""

    name: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Opt:
    """Capture an operand that may be absent."""

    inner: Pattern


@dataclass(frozen=True)
class Rest:
    """Capture all remaining operands, as a list."""

    name: str


@dataclass(frozen=True)
class Either:
    """Match whichever of several patterns fits."""

    choices: tuple[Pattern, ...]


@dataclass(frozen=True)
class Op:
    """Match one node by operator, operands and attributes."""

    types: tuple[str, ...]
    operands: tuple[Pattern, ...]
    attrs: Mapping[str, object] = field(default_factory=dict)

    def __or__(self, other: Op) -> Op:
        """Accept either operator over the same operands."""
        if (self.operands, self.attrs) != (other.operands, other.attrs):
            raise PatternError("alternatives must share operands and attributes")
        return Op(self.types + other.types, self.operands, self.attrs)

    def orders(self) -> Iterator[tuple[Pattern, ...]]:
        """Yield the operand orders worth trying."""
        if len(self.operands) == 2 and COMMUTATIVE.issuperset(self.types):
            yield from itertools.permutations(self.operands)
        else:
            yield self.operands


Pattern = Var | Const | Opt | Rest | Either | Op


def _pattern(operand: Operand) -> Pattern:
    match operand:
        case str():
            return Var(operand)
        case int() | float():
            return Const(value=float(operand))
        case _:
            return operand


def const(name: str | None = None, value: float | None = None) -> Const:
    """Capture a constant as a NumPy array called *name*."""
    return Const(name, value)


def opt(operand: Operand) -> Opt:
    """Capture *operand* if it is there."""
    return Opt(_pattern(operand))


def either(*operands: Operand) -> Either:
    """Take whichever of *operands* fits, the first ones first."""
    return Either(tuple(map(_pattern, operands)))


def rest(name: str) -> Rest:
    """Capture all remaining operands as the list *name*."""
    return Rest(name)


class _Domain(NamedTuple):
    """``op.Conv(...)`` builds a pattern; an unknown operator is an error at import time."""

    name: str = ""

    def __getattr__(self, op_type: str) -> _OpBuilder:
        if op_type.startswith("_"):
            raise AttributeError(op_type)
        if not self.name and not _is_standard(op_type):
            raise PatternError(f"ONNX has no operator {op_type!r}")
        return _OpBuilder(f"{self.name}::{op_type}" if self.name else op_type)


class _OpBuilder(NamedTuple):
    op_type: str

    def __call__(self, *operands: Operand, **attrs: object) -> Op:
        return Op((self.op_type,), tuple(map(_pattern, operands)), attrs)


@functools.cache
def _is_standard(op_type: str) -> bool:
    return onnx.defs.has(op_type)


op = _Domain()


def domain(name: str) -> _Domain:
    """Build patterns of the operators of another domain."""
    return _Domain(name)


def may_occur(pattern: Pattern, operators: Collection[str]) -> bool:
    """Say whether nodes of *operators* alone can make up *pattern*."""
    if isinstance(pattern, Op):
        present = any(operator in operators for operator in pattern.types)
        return present and all(may_occur(operand, operators) for operand in pattern.operands)
    if isinstance(pattern, Either):
        return any(may_occur(choice, operators) for choice in pattern.choices)
    return True


@dataclass
class Match:
    """A place where a pattern fits."""

    root: Node
    tensors: dict[str, Any]
    nodes: list[Node]
    private: bool = True
    """Whether the inner results are read by the match alone."""
    pinned: frozenset[int] = frozenset()
    """The ids of graph outputs, which somebody reads whatever the graph says."""

    def __getitem__(self, name: str) -> Any:
        """Return the tensor captured as *name*; a constant comes as its array."""
        tensor = self.tensors[name]
        return tensor.values if isinstance(tensor, Constant) else tensor

    def get(self, name: str, default: Any = None) -> Any:
        """Return what was captured as *name*, or *default* if the operand is absent."""
        return self[name] if name in self.tensors else default

    def constant(self, name: str, default: Any = None) -> Array:
        """Return the array captured as *name*, or *default*; declines what is not constant."""
        if name not in self.tensors:
            return np.asarray(default)
        tensor = self.tensors[name]
        what = OVERRIDABLE if is_overridable(tensor) else "not a constant"
        self.require(isinstance(tensor, Constant), f"{name} is {what}")
        values: Array = tensor.values
        return values

    def tensor(self, name: str) -> Tensor:
        """Return what was captured as *name* as a tensor, constant or not."""
        captured: Tensor = self.tensors[name]
        return captured

    def node(self, *operators: str) -> Node:
        """Return the only matched node of these operators."""
        (node,) = (node for node in self.nodes if node.operator in operators)
        return node

    def owns(self, node: Node) -> bool:
        """Say whether *node* stands beside the root and nobody but the match reads its results."""
        return node.graph is self.root.graph and _private(node, self.nodes, self.pinned)

    def take(self, nodes: Iterable[Node]) -> None:
        """Add nodes that the pattern could not name: they go when the root goes."""
        self.nodes += [node for node in dict.fromkeys(nodes) if node not in self.nodes]

    def require(self, condition: object, reason: str) -> None:
        """Decline this match unless *condition* holds; *reason* goes to the report."""
        if not condition:
            raise Declined(reason)


def match(pattern: Op, root: Node, pinned: frozenset[int] = frozenset()) -> Match | None:
    """Fit *pattern* so that its root is *root*.

    Fits whose inner results are private come first: read by the match alone and, by id, not
    *pinned*.
    """
    shared = None
    for tensors, nodes in _match_node(pattern, root, {}, []):
        inner = [node for node in nodes if node is not root]
        if all(_private(node, nodes, pinned) and not _captured(node, tensors) for node in inner):
            return Match(root, tensors, nodes, pinned=pinned)
        shared = shared or Match(root, tensors, nodes, private=False, pinned=pinned)
    return shared


def _private(node: Node, nodes: list[Node], pinned: frozenset[int]) -> bool:
    return all(
        id(tensor) not in pinned
        and all(any(reader is inside for inside in nodes) for reader in tensor.outputs)
        for tensor in node.outputs
    )


def _captured(node: Node, tensors: dict[str, Any]) -> bool:
    """Say whether an operand of the match is computed by *node*, so that it must stay."""
    found = {id(t) for item in tensors.values() for t in (item if type(item) is list else [item])}
    return any(id(tensor) in found for tensor in node.outputs)


_State = tuple[dict[str, Any], list[Node]]


def _match_node(
    pattern: Op, node: Node, tensors: dict[str, Any], nodes: list[Node]
) -> Iterator[_State]:
    if node.operator not in pattern.types or node.erased:
        return
    if any(node.attrs.get(key) != value for key, value in pattern.attrs.items()):
        return
    takes_rest = bool(pattern.operands) and isinstance(pattern.operands[-1], Rest)
    if len(node.inputs) > len(pattern.operands) and not takes_rest:
        return
    inputs = list(node.inputs)
    for operands in pattern.orders():
        if all(map(_may_fit, operands, inputs)):
            yield from _match_operands(operands, inputs, tensors, [*nodes, node])


def _may_fit(pattern: Pattern, tensor: Tensor) -> bool:
    """Say, at a glance, whether *tensor* is of the kind that *pattern* wants."""
    if isinstance(pattern, Op):
        return bool(tensor.inputs) and tensor.inputs[0].operator in pattern.types
    if isinstance(pattern, Either):
        return any(_may_fit(choice, tensor) for choice in pattern.choices)
    return isinstance(tensor, Constant) or not isinstance(pattern, Const)


def _match_operands(
    operands: tuple[Pattern, ...],
    inputs: list[Tensor],
    tensors: dict[str, Any],
    nodes: list[Node],
) -> Iterator[_State]:
    if not operands:
        yield tensors, nodes
        return
    head, others = operands[0], operands[1:]
    if isinstance(head, Rest):
        yield {**tensors, head.name: inputs}, nodes
        return
    present = bool(inputs) and not inputs[0].is_empty()
    if isinstance(head, Opt):
        if not present:
            yield from _match_operands(others, inputs[1:], tensors, nodes)
            return
        head = head.inner
    if not present:
        return
    for bound, seen in _match_tensor(head, inputs[0], tensors, nodes):
        yield from _match_operands(others, inputs[1:], bound, seen)


def _match_tensor(
    pattern: Pattern, tensor: Tensor, tensors: dict[str, Any], nodes: list[Node]
) -> Iterator[_State]:
    if isinstance(pattern, Op):
        node = producer(tensor)
        if node is not None and tensor is node.outputs[0]:
            yield from _match_node(pattern, node, tensors, nodes)
    elif isinstance(pattern, Const):
        value = pattern.value
        if isinstance(tensor, Constant) and (value is None or is_all(tensor, value)):
            yield from _bind(pattern.name, tensor, tensors, nodes)
    elif isinstance(pattern, Var):
        yield from _bind(pattern.name, tensor, tensors, nodes)
    elif isinstance(pattern, Either):
        for choice in pattern.choices:
            yield from _match_tensor(choice, tensor, tensors, nodes)
    else:
        raise PatternError("opt() and rest() mark operands, they cannot be nested")


def _bind(
    name: str | None, tensor: Tensor, tensors: dict[str, Any], nodes: list[Node]
) -> Iterator[_State]:
    if name is None or tensors.get(name) is tensor:
        yield tensors, nodes
    elif name not in tensors:
        yield {**tensors, name: tensor}, nodes


def is_all(tensor: Constant, value: float) -> bool:
    """Say whether every element of *tensor* is *value*, to within its type's rounding.

    A value that is exact in float32 must be met exactly.
    """
    if tensor.size == 0 or not _is_number(tensor.dtype):
        return False
    values: Array = tensor.values
    first = values.reshape(-1)[0]
    return _means(first, value) and bool((values == first).all())


def _means(first: Any, value: float) -> bool:
    """Say whether an element is *value*, to within its type's rounding."""
    if float(np.float32(value)) == value:
        return float(first) == value
    precision = {"bfloat16": 4e-3, "float16": 1e-3}.get(first.dtype.name, 5e-7)
    return abs(float(first) - value) <= precision * abs(value)


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu" or dtype.name == "bfloat16"
