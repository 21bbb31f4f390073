"""A graph computed by torch, so that gradients reach its initializers.

Nodes stay what they are and initializers keep their names; one that several nodes read is one
parameter. Operators come from a table (`operators`); before that, functions and the branches of
known conditions are inlined, and nodes are brought to opset 22.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onnxslim import registry, shapes, versions
from onnxslim.errors import CannotTune, Declined, PassError
from onnxslim.ir import Array, Constant, Graph, Model, Node, Tensor, Variable, elem_type, numpy_type
from onnxslim.pipeline import Pipeline
from onnxslim.tune.operators import TABLE, Call, Value, carrier
from onnxslim.tune.rounding import Rounding

OPSET = 22
"""The version that functions in the table are written for; they hold for newer ones too."""
_INLINED = "inline-functions,inline-if"
_HALVES = {10: torch.float16, 16: torch.bfloat16}


def prepared(model: Model) -> Model:
    """Return a copy of *model* in the form that the table is for. Raises CannotTune."""
    found = model
    if model.functions or any(node.op == "If" for node in model.nodes()):
        found, _ = Pipeline(registry.parse(_INLINED), check="off")(model)
    found = found.copy()
    try:
        versions.convert(found, max(model.opset, OPSET))
    except PassError as error:
        raise CannotTune(f"the model cannot be tuned: {error}") from None
    found.compact()
    found.sort()
    return found


def lacking(model: Model) -> list[Node]:
    """Return the nodes of a prepared model whose operators are not in the table."""
    nodes = (node for node in model.nodes() if node.op != "Constant")
    return [node for node in nodes if node.operator not in TABLE and node.operator != "If"]


@dataclass(frozen=True)
class _Step:
    """A node, compiled: values live in numbered slots."""

    call: Call
    function: Any
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    branches: tuple[_Body, _Body] | None = None
    """What an If runs: when its condition holds, and else."""

    def reads(self) -> Iterable[int]:
        """Yield the slots that are read, also inside of branches."""
        yield from (slot for slot in self.inputs if slot is not None)
        for body in self.branches or ():
            yield from body.outputs
            for step in body.steps:
                yield from step.reads()


@dataclass(frozen=True)
class _Body:
    """The nodes of a branch, and where its results lie."""

    steps: tuple[_Step, ...]
    outputs: tuple[int, ...]


class Executor:
    """Computes *model* by torch; `parameters` are leaves that gradients arrive at.

    *tunable* names the float initializers that are parameters; all others are constants. *extra*
    names tensors to be returned beside the outputs. Raises CannotTune where an operator is missing.
    """

    def __init__(
        self,
        model: Model,
        tunable: Collection[str] = (),
        extra: Sequence[str] = (),
        stochastic: bool = False,
    ) -> None:
        """Compile *model*, which stays untouched."""
        self.rounding = Rounding(stochastic)
        self.parameters: dict[str, Value] = {}
        self._types: dict[str, np.dtype[Any]] = {}
        self._halves: dict[str, torch.dtype] = {}
        self._tunable = frozenset(tunable)
        self._slots: dict[Tensor, int] = {}
        self._known: dict[int, Value] = {}
        self._bound: dict[int, str] = {}
        self._model = prepared(model)
        self._facts = shapes.infer(self._model)
        _refuse(lacking(self._model))
        graph = self._model.graph
        self._inputs = {t.name: (self._slot(t), t) for t in graph.inputs}
        self._steps = self._fold(self._compiled(graph))
        self._wanted = self._named(extra)
        self.types = {t.name: self._facts.elem_type(t) for t in graph.outputs}
        """``TensorProto.DataType`` of each output."""
        self._dead = self._last_uses()

    def __call__(self, feed: Mapping[str, Any]) -> dict[str, Value]:
        """Return the outputs, and what else is wanted, by name. Raises CannotTune."""
        values = dict(self._known)
        for name, (slot, tensor) in self._inputs.items():
            if name in feed:
                values[slot] = torch_value(feed[name], self._facts.elem_type(tensor))
        for slot, name in self._bound.items():
            values[slot] = self._parameter(name)
        self._run(self._steps, values, self._dead)
        return {name: values[slot] for name, slot in self._wanted.items()}

    def value(self, name: str) -> Array:
        """Return a parameter as an array of the initializer's type."""
        found = self.parameters[name].detach()
        if name in self._halves:
            found = found.to(self._halves[name])
        if found.dtype is torch.bfloat16:
            found = found.float()
        return np.asarray(found.numpy()).astype(self._types[name])

    # Compiling

    def _slot(self, tensor: Tensor) -> int:
        if tensor not in self._slots:
            slot = self._slots[tensor] = len(self._slots)
            if isinstance(tensor, Constant):
                self._constant(tensor, slot)
            elif tensor.default is not None:
                self._known[slot] = self._default(tensor)
        return self._slots[tensor]

    def _constant(self, tensor: Constant, slot: int) -> None:
        if tensor.name not in self._tunable or tensor.inputs:
            self._known[slot] = torch_value(tensor.values, tensor.elem_type)
            return
        leaf = torch_value(tensor.values, tensor.elem_type)
        self.parameters[tensor.name] = leaf.requires_grad_()
        self._types[tensor.name] = tensor.dtype
        if tensor.elem_type in _HALVES:
            self._halves[tensor.name] = _HALVES[tensor.elem_type]
        self._bound[slot] = tensor.name

    def _default(self, tensor: Variable) -> Value:
        default: Any = tensor.default
        if not hasattr(default, "data_type"):
            raise CannotTune(f"initializer {tensor.name!r} is sparse; make it dense before tuning")
        return torch_value(self._model.decoded(default), default.data_type)

    def _compiled(self, graph: Graph) -> list[_Step]:
        return [self._step(node) for node in graph.nodes if node.op != "Constant"]

    def _step(self, node: Node) -> _Step:
        inputs = tuple(self._slot(t) if t.name else None for t in node.inputs)
        outputs = tuple(self._slot(t) for t in node.outputs)
        types = tuple(self._facts.elem_type(t) if t.name else 0 for t in node.outputs)
        wanted = tuple(bool(t.name) for t in node.outputs)
        call = Call(node.operator, _name(node), dict(node.attrs), types, wanted, self.rounding)
        if node.operator != "If":
            return _Step(call, TABLE[node.operator], inputs, outputs)
        chosen, other = (self._body(node.attrs[key]) for key in ("then_branch", "else_branch"))
        return _Step(call, None, inputs, outputs, (chosen, other))

    def _body(self, graph: Graph) -> _Body:
        steps = tuple(self._compiled(graph))
        return _Body(steps, tuple(map(self._slot, graph.outputs)))

    def _fold(self, steps: list[_Step]) -> list[_Step]:
        """Compute once what depends on neither inputs nor parameters."""
        kept, held = list[_Step](), {slot for slot, _ in self._inputs.values()}
        with torch.no_grad():
            for step in steps:
                known = all(slot in self._known and slot not in held for slot in step.reads())
                if known and step.branches is None:
                    self._run([step], self._known, {})
                else:
                    kept.append(step)
        return kept

    def _named(self, extra: Sequence[str]) -> dict[str, int]:
        """Return the slots of the outputs and of *extra* by name."""
        slots = {t.name: slot for t, slot in self._slots.items() if t.name}
        for name in extra:
            if name not in slots:
                raise CannotTune(f"the model has no tensor {name!r} to compare as a feature")
        outputs = [t.name for t in self._model.graph.outputs]
        for tensor in self._model.graph.outputs:
            slots[tensor.name] = self._slot(tensor)
        return {name: slots[name] for name in (*outputs, *extra)}

    def _last_uses(self) -> dict[int, list[int]]:
        """Return the slots that are free after each step."""
        last: dict[int, int] = {}
        for at, step in enumerate(self._steps):
            last.update((slot, at) for slot in (*step.outputs, *step.reads()))
        kept = {*self._wanted.values()}
        dead: dict[int, list[int]] = {}
        for slot, at in last.items():
            if slot not in kept:
                dead.setdefault(at, []).append(slot)
        return dead

    # Running

    def _parameter(self, name: str) -> Value:
        value = self.parameters[name]
        return self.rounding.narrow(value, self._halves[name]) if name in self._halves else value

    def _run(
        self, steps: Iterable[_Step], values: dict[int, Value], dead: Mapping[int, list[int]]
    ) -> None:
        for at, step in enumerate(steps):
            found = self._branch(step, values) if step.branches else _computed(step, values)
            values.update(zip(step.outputs, found, strict=False))
            for slot in dead.get(at, ()):
                values.pop(slot, None)

    def _branch(self, step: _Step, values: dict[int, Value]) -> list[Value]:
        assert step.branches is not None
        (condition,) = step.inputs
        body = step.branches[0 if bool(values[condition or 0].all()) else 1]
        self._run(body.steps, values, {})
        return [values[slot] for slot in body.outputs]


def _computed(step: _Step, values: Mapping[int, Value]) -> Sequence[Value]:
    given = [None if slot is None else values[slot] for slot in step.inputs]
    while given and given[-1] is None:
        given.pop()
    try:
        found = step.function(step.call, *given)
    except Declined as reason:
        raise CannotTune(f"{step.call.name} cannot be tuned through: {reason}") from None
    except (RuntimeError, IndexError, TypeError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        raise CannotTune(f"{step.call.name} fails in torch: {text[:200]}") from error
    return found if isinstance(found, tuple) else (found,)


def _refuse(nodes: Sequence[Node]) -> None:
    if nodes:
        operators = sorted({node.operator for node in nodes})
        raise CannotTune(
            f"{_name(nodes[0])} cannot be tuned through: the tuner lacks "
            f"{', '.join(operators)}; cut the model there (--outputs) or replace the operator"
        )


def _name(node: Node) -> str:
    """Return the operator and the name of a node, for messages."""
    output = node.outputs[0].name if node.outputs else ""
    return f"{node.operator} {node.name!r}" if node.name else f"{node.operator} -> {output!r}"


def torch_value(value: Any, kind: int = 0) -> Value:
    """Return an array of ``TensorProto.DataType`` *kind* as torch computes with it."""
    if isinstance(value, torch.Tensor):
        return value
    array = np.asarray(value)
    kind = kind or elem_type(array.dtype)
    try:
        dtype = carrier(kind)
    except Declined as reason:
        raise CannotTune(str(reason)) from None
    plain = array.astype(torch.zeros(0, dtype=dtype).numpy().dtype, order="C")
    return torch.from_numpy(plain)


def array_of(value: Value, kind: int) -> Array:
    """Return what torch computed as an array of ``TensorProto.DataType`` *kind*."""
    array = np.asarray(value.detach().numpy())
    return array.astype(numpy_type(kind)) if kind else array
