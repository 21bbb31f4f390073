"""Nodes by operator: what a pass looks for, in order."""

from kit import model
from onnxslim.ir import Index, Model

IF = """
g (bool c, float[2] x) => (float[2] y) {
    a = Relu(x)
    b = If(c) <
        then_branch = t () => (float[2] p) { q = Tanh(a)  p = Relu(q) },
        else_branch = e () => (float[2] r) { r = Neg(a) }
    >
    d = Tanh(b)
    y = Relu(d)
}
"""


def found(of: Model, *operators: str) -> list[list[str]]:
    return [[node.outputs[0].name for node in nodes] for _, nodes in Index(of).find(operators)]


def test_nodes_come_in_order_by_graph_the_outermost_first() -> None:
    assert found(model(IF), "Relu", "Tanh") == [["a", "d", "y"], ["q", "p"]]


def test_graphs_without_any_are_left_out() -> None:
    before = model(IF)
    ((graph, _),) = Index(before).find(["Neg"])
    assert graph.name == "e"


def test_erased_nodes_are_left_out() -> None:
    before = model("g (float[2] x) => (float[2] y) { y = Relu(x)  z = Relu(x) }")
    before.graph.nodes[1].erased = True
    assert found(before, "Relu") == [["y"]]


def test_a_call_of_a_function_is_not_the_operator_of_its_name() -> None:
    text = "g (float[2] x) => (float[2] y) { z = Relu(x)  y = local.Relu(z) }"
    body = '<domain: "local", opset_import: ["" : 20]> Relu (a) => (b) { b = Neg(a) }'
    assert Index(model(f"{text} {body}")).operators == {"Relu", "local::Relu", "Neg"}
