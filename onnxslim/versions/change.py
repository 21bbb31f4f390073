"""One node on its way from one version of its operator to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from onnx import TensorProto, TypeProto
from onnx.defs import OpSchema

from onnxslim.errors import Declined
from onnxslim.ir import (
    Array,
    Constant,
    Graph,
    Names,
    Node,
    Tensor,
    Variable,
    absent,
    numpy_type,
    set_inputs,
)
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts
from onnxslim.versions.history import HINTS, default, formal, needed

Share = Callable[[Any], Tensor]
"""Returns a constant that holds an array, the same one for equal arrays."""


class Change:
    """A node that an adapter takes from the version `old` of its operator to the version `new`.

    The adapter changes the node in place. What it makes with `build` comes before the node, what
    it hands to `then` behind it.
    """

    def __init__(
        self, node: Node, graph: Graph, old: OpSchema, new: OpSchema,
        facts: Facts, names: Names, share: Share,
    ) -> None:  # fmt: skip
        """Prepare to change *node* of *graph*."""
        self.node, self.graph, self.old, self.new = node, graph, old, new
        self.facts, self.names, self.share = facts, names, share
        self.build = Builder(names, graph)
        self.after: list[Node] = []

    # Refusing

    def refuse(self, reason: str) -> NoReturn:
        """Leave the model as it is, for this *reason*."""
        raise Declined(reason)

    def require(self, condition: object, reason: str) -> None:
        """Refuse unless *condition* holds."""
        if not condition:
            self.refuse(reason)

    # Looking

    def attr(self, name: str) -> Any:
        """Return an attribute, or else its default in the old version."""
        value = self.node.attr(name)
        if value is None and name in self.old.attributes:
            return default(self.old.attributes[name])
        return value

    def given(self, slot: int) -> bool:
        """Say whether the node has this input."""
        return self.node.input(slot) is not None

    def value(self, slot: int, what: str) -> Array | None:
        """Return the value of an input; None where it is left out. Refuse if it is computed."""
        if not self.given(slot):
            return None
        found = self.node.constant(slot)
        if found is None:
            self.refuse(f"its {what} are computed, and must be known")
        return found

    def ints(self, slot: int, what: str) -> list[int] | None:
        """Return the integers of an input; None where it is left out."""
        found = self.value(slot, what)
        return None if found is None else [int(item) for item in found.reshape(-1)]

    def rank(self) -> int:
        """Return the rank of the first input."""
        rank = self.facts.rank(self.node.inputs[0])
        if rank is None:
            self.refuse("the rank of its input is not known")
        return rank

    def dtype(self) -> np.dtype[Any]:
        """Return the type of the first input."""
        elem = self.facts.elem_type(self.node.inputs[0])
        self.require(elem, "the type of its input is not known")
        return numpy_type(elem)

    def reads(self, slot: int) -> bool:
        """Say whether the node has this output, and somebody may read it."""
        return slot < len(self.node.outputs) and bool(self.node.outputs[slot].name)

    # Changing

    def rename(self, op: str) -> None:
        """Make the node one of another operator."""
        self.node.op = op

    def pop(self, name: str) -> Any:
        """Take an attribute away; return it, or else its default in the old version."""
        value = self.attr(name)
        if name in self.node.attrs:
            self.node.attrs = {k: v for k, v in self.node.attrs.items() if k != name}
        return value

    def put(self, **attrs: Any) -> None:
        """Set attributes."""
        self.node.attrs = {**self.node.attrs, **attrs}

    def feed(self, *operands: Any) -> None:
        """Give the node these inputs: tensors, arrays, or None for one that is left out."""
        tensors = [self._tensor(operand) for operand in operands]
        while tensors and not tensors[-1].name:
            tensors.pop()
        set_inputs(self.node, tensors)

    def _tensor(self, operand: Any) -> Tensor:
        if operand is None:
            return absent()
        return operand if isinstance(operand, Variable | Constant) else self.share(operand)

    def keep_inputs(self, count: int) -> None:
        """Drop the inputs behind the first *count*."""
        self.feed(*(self.node.input(slot) for slot in range(min(count, len(self.node.inputs)))))

    def keep_outputs(self, count: int) -> None:
        """Drop the outputs behind the first *count*, which nobody may read."""
        while len(self.node.outputs) > count:
            list.clear(self.node.outputs[-1].inputs)
            list.pop(self.node.outputs)

    def then(self, op: str, *operands: Any, **attrs: Any) -> None:
        """Compute the output, from a result of its type and *operands*, by *op*."""
        result = self.node.outputs[0]
        elem = self.facts.elem_type(result)
        dtype = numpy_type(elem) if elem else None
        inner = Variable(self.names.fresh(result.name), dtype)
        list.clear(result.inputs)
        list.__setitem__(self.node.outputs, 0, inner)
        list.append(inner.inputs, self.node)
        made = Node(op, "", attrs, [inner, *map(self._tensor, operands)], [result])
        made.graph = self.graph
        self.after.append(made)


# Versions that mean the same ----------------------------------------------------------------------


def carry_over(change: Change) -> None:
    """Take over a node for which both versions mean the same; refuse where they may not."""
    if change.new.deprecated:
        change.refuse(f"the operator is gone since opset {change.new.since_version}")
    _attributes(change)
    _operands(change, change.node.inputs, change.old.inputs, change.new.inputs, "input")
    _operands(change, change.node.outputs, change.old.outputs, change.new.outputs, "output")


def _attributes(change: Change) -> None:
    old, new = change.old.attributes, change.new.attributes
    newer = change.old.since_version > change.new.since_version
    for name in HINTS:
        change.pop(name)
    for name, value in change.node.attrs.items():
        if name not in new:
            plain = newer and name in old and value == default(old[name])
            change.require(plain, f"it sets {name}")
    change.node.attrs = {k: v for k, v in change.node.attrs.items() if k in new}
    gone, made = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    for name in made if newer else gone:
        change.require(name in HINTS, f"{name} is gone since opset {_later(change)}")
    for name in () if newer else made:
        change.require(not new[name].required, f"opset {_later(change)} needs {name}")
    for name in sorted(set(old) & set(new)):
        before, now = default(old[name]), default(new[name])
        if before != now and name not in change.node.attrs:
            change.require(before is not None, f"the default of {name} is another")
            change.put(**{name: before})


def _later(change: Change) -> int:
    return int(max(change.old.since_version, change.new.since_version))


def _operands(
    change: Change, tensors: Sequence[Tensor], old: Sequence[Any], new: Sequence[Any], kind: str
) -> None:
    for slot in range(max(len(tensors), len(new))):
        before, now = formal(old, slot), formal(new, slot)
        tensor = tensors[slot] if slot < len(tensors) else None
        if tensor is None or not tensor.name:
            change.require(kind == "output" or not needed(now), f"it needs {now and now.name}")
        elif now is None:
            change.refuse(f"{kind} {slot} ({before.name if before else '?'}) is not to be had")
        else:
            _types(change, tensor, before, now)


def _types(change: Change, tensor: Tensor, before: Any, now: Any) -> None:
    lost = set() if before is None else set(before.types) - set(now.types)
    if not lost:
        return
    name = _type_of(tensor, change.facts)
    change.require(name, f"the type of {tensor.name!r} is not known")
    change.require(name in now.types, f"it has no {name}")


def _type_of(tensor: Tensor, facts: Facts) -> str:
    """Return the type of *tensor* as operators' schemas write it, "" where it is not known."""
    elem = facts.elem_type(tensor)
    if elem:
        return f"tensor({TensorProto.DataType.Name(elem).lower()})"
    source = tensor.source if isinstance(tensor, Variable) else None
    return "" if source is None else _declared(source.type)


def _declared(proto: TypeProto) -> str:
    kind = proto.WhichOneof("value")
    if kind == "tensor_type" and proto.tensor_type.elem_type in TensorProto.DataType.values():
        return f"tensor({TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()})"
    if kind in ("sequence_type", "optional_type"):
        inner = _declared(getattr(proto, kind).elem_type)
        return f"{'seq' if kind == 'sequence_type' else 'optional'}({inner})" if inner else ""
    return ""
