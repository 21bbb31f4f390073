"""Subgraphs, local functions, and nodes that occur twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from benchmarks.fuzz.grower import LOCAL, Grower, Refused, Scope, motif
from benchmarks.fuzz.motifs.arithmetic import reduced
from benchmarks.fuzz.values import Value, declaration


def grown_body(
    g: Grower, name: str, inputs: Sequence[Value], wanted: Sequence[Value | None], extra: int = 0
) -> onnx.GraphProto:
    """Grow a body whose outputs have the types and shapes of *wanted*; None is the condition."""
    scope = Scope(g.scope)
    scope.values = list(inputs)

    def grow() -> onnx.GraphProto:
        for _ in range(g.choose(0, 1, 2, 3)):
            g.step()
        outputs: list[Value] = []
        for like in wanted:
            outputs.append(_result(g, scope, inputs, outputs, like))
        for _ in range(extra):
            outputs.append(g.node(g.choose("Relu", "Neg", "Identity"), [g.pick()]))
        return helper.make_graph(
            scope.nodes, name,
            [declaration(v.name, v.type, None if v.rank else ()) for v in inputs],
            [declaration(v.name, v.type, None) for v in outputs], scope.weights,
        )  # fmt: skip

    made: onnx.GraphProto = g.within(scope, grow)
    return made


def _result(
    g: Grower, scope: Scope, inputs: Sequence[Value], taken: Sequence[Value], like: Value | None
) -> Value:
    """Return a value for an output of a body: some node's, and nobody else's."""
    if like is None:
        return g.node("Identity", [inputs[1]])
    found = [v for v in scope.values if (v.type, v.shape) == (like.type, like.shape)]
    found = [v for v in found if not v.rough]
    source = g.random.choice(found) if found and g.flip(0.9) else like
    plain = source in scope.values and not source.known and source not in inputs
    return source if plain and source not in taken else g.node("Identity", [source])


@motif(1.2)
def branch(g: Grower) -> None:
    """If, its condition known or computed."""
    if g.scope.function or g.scope.depth > 1:
        raise Refused
    x = g.pick()
    if g.flip(0.4):
        when = g.scalar(g.flip(), "tensor(bool)")
    else:
        total = reduced(g, "ReduceMax", g.pick(ok=lambda v: not v.rough and bool(v.held.size)),
                        None, keepdims=0)  # fmt: skip
        when = g.node("Greater", [total, g.scalar(g.choose(0, 1, 9))])
    bodies = [grown_body(g, name, [], [x]) for name in ("then", "else")]
    g.node("If", [when], then_branch=bodies[0], else_branch=bodies[1])


@motif(1.2)
def loop(g: Grower) -> None:
    """Loop with carried and stacked values."""
    if g.scope.function or g.scope.depth > 1 or g.opset < 11:
        raise Refused
    x = g.pick(ok=lambda v: not v.rough)
    count = g.scalar(g.choose(0, 1, 2, 3), "tensor(int64)")
    go = g.scalar(g.choose(True, True, True, False), "tensor(bool)") if g.flip() else None
    depth = g.scope.depth + 1
    inputs = [
        Value(f"i{depth}", "tensor(int64)", np.array(0)),
        Value(f"go{depth}", "tensor(bool)", np.array(True)),
        Value(f"s{depth}", x.type, x.held),
    ]
    extra = 0 if go is not None or not count.held else g.choose(0, 1)  # else no shape is said
    body = grown_body(g, "body", inputs, [None, inputs[2]], extra)
    g.node("Loop", [count, go, x], 1 + extra, body=body)


@motif(0.5)
def scan(g: Grower) -> None:
    """Scan over the first dimension, with a state."""
    if g.scope.function or g.scope.depth > 1 or g.opset < 9:
        raise Refused
    x = g.pick(ok=lambda v: not v.rough and v.rank > 0 and v.shape[0] > 0)
    depth = g.scope.depth + 1
    state = g.constant(g.array(x.type, x.shape[1:]), x.type)
    inputs = [
        Value(f"s{depth}", x.type, state.held),
        Value(f"e{depth}", x.type, np.asarray(x.held[0])),
    ]
    body = grown_body(g, "body", inputs, [inputs[0]], 1)
    g.node("Scan", [state, x], 2, body=body, num_scan_inputs=1)


@motif(0.3)
def sequence_map(g: Grower) -> None:
    """SequenceMap over two tensors."""
    if g.scope.function or g.scope.depth > 1 or g.opset < 17:
        raise Refused
    x = g.pick(ok=lambda v: not v.rough)
    depth = g.scope.depth + 1
    item = Value(f"q{depth}", x.type, x.held)
    body = grown_body(g, "body", [item], [item])
    made = g.node("SequenceConstruct", [x, g.choose(x, g.constant(g.array(x.type, x.shape)))])
    mapped = g.node("SequenceMap", [made], body=body)
    g.node("SequenceAt", [mapped, g.scalar(g.choose(0, 1, -1), "tensor(int64)")])


@motif(1.2)
def call(g: Grower) -> None:
    """Define a local function and call it, often more than once."""
    if g.scope.depth or g.ir < 8:
        raise Refused
    arguments = [g.pick() for _ in range(g.choose(1, 1, 2))]
    scope = Scope(g.scope, function=True)
    formal = [Value(f"a{i}", v.type, v.held, v.rough) for i, v in enumerate(arguments)]
    scope.values = list(formal)
    alpha = g.choose(0.5, 0.0, 0.25)

    def grow() -> Value:
        for _ in range(g.choose(1, 2, 3)):
            g.step()
        y = g.pick()
        if g.flip(0.4):
            y = g.node(g.choose("LeakyRelu", "Elu"), [y], refer="alpha", alpha=alpha)
        return y if y not in formal else g.node("Identity", [y])

    result = g.within(scope, grow)
    made = helper.make_function(
        LOCAL, f"f{len(g.functions)}", [v.name for v in formal], [result.name], scope.nodes,
        [helper.make_opsetid("", g.opset), helper.make_opsetid(LOCAL, 1)], ["alpha"],
    )  # fmt: skip
    g.functions.append(made)
    try:
        y = g.node(made.name, arguments, domain=LOCAL, alpha=alpha)
        y.rough = True
        for _ in range(g.choose(0, 0, 1)):
            again = [g.choose(v, y) if v.shape == y.shape else v for v in arguments]
            g.node(made.name, again, domain=LOCAL, alpha=g.choose(alpha, 0.125)).rough = True
    except Refused:
        if not any(made.name == n.op_type for n in g.main.nodes):
            g.functions.remove(made)
        raise


@motif(0.6)
def repeated(g: Grower) -> None:
    """A node once more, with the same inputs."""
    made = [n for n in g.scope.nodes if n.op_type not in ("Constant", "If", "Loop", "Scan")]
    if not made:
        raise Refused
    node = g.random.choice(made)
    visible = {v.name: v for v in g.scope.visible()}
    read = [visible[name] if name else None for name in node.input if name in visible or not name]
    if len(read) < len(node.input) or any(a.ref_attr_name for a in node.attribute):
        raise Refused
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    again = g.node(node.op_type, read, len(node.output), node.domain, **attrs)
    first = visible.get(node.output[0])
    if first is not None and first.type == again.type == g.float and g.flip():
        g.node(g.choose("Add", "Mul", "Max"), [first, again])
