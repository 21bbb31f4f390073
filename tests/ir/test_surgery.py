"""Rewiring: every use list stays right, names stay free, and it costs what it touches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs  # noqa: TID251  users' own passes make such objects
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

import ir_features
from ir_features import branch, floats, if_model, info
from onnxslim.errors import Declined, ModelError
from onnxslim.ir import (
    Constant,
    Graph,
    Model,
    Names,
    Node,
    Tensor,
    Variable,
    absent,
    constant,
    erase,
    is_used,
    producer,
    release,
    replace_uses,
    set_input,
    set_inputs,
    set_output,
    substitute,
    walk,
)
from onnxslim.ir.surgery import captured, sort


def chain(*ops: str, initializers: tuple[str, ...] = ()) -> Model:
    """Make x -> op -> a -> op -> b ...; an op "Add:w" also reads w."""
    nodes, previous = [], "x"
    for index, spec in enumerate(ops):
        op, *more = spec.split(":")
        name = "abcdefgh"[index]
        nodes.append(helper.make_node(op, [previous, *more], [name], name=name))
        previous = name
    return Model.from_proto(
        ir_features.model(nodes, [info("x")], [info(previous)], [floats(n) for n in initializers])
    )


def tensors(model: Model) -> dict[str, Tensor]:
    found = {t.name: t for g in model.graphs() for t in (*g.inputs, *g.initializers)}
    for node in model.nodes():
        found.update((t.name, t) for t in (*node.inputs, *node.outputs))
    return found


def nodes(model: Model) -> dict[str, Node]:
    return {node.name: node for node in model.nodes()}


def assert_linked(model: Model) -> None:
    """Every use is known to both its ends, as often as it is there."""
    live = [node for graph in model.graphs() for node in graph.nodes if not node.erased]
    for node in live:
        for tensor in node.inputs:
            assert sum(n is node for n in tensor.outputs) == sum(t is tensor for t in node.inputs)
        for tensor in node.outputs:
            assert [n for n in tensor.inputs if n is node] == [node]
    for tensor in {t for node in live for t in (*node.inputs, *node.outputs)}:
        assert all(any(n is node for node in live) for n in (*tensor.inputs, *tensor.outputs))


def written(model: Model) -> list[str]:
    model.compact()
    model.check()
    assert_linked(model)
    proto = model.proto()
    assert Model.from_proto(proto).to_bytes() == model.to_bytes()
    return [f"{n.op_type}({', '.join(n.input)})->{','.join(n.output)}" for n in proto.graph.node]


def initializers(model: Model) -> list[str]:
    return [tensor.name for tensor in model.proto().graph.initializer]


# Identity -----------------------------------------------------------------------------------------


def test_things_equal_themselves_only() -> None:
    model = Model.from_proto(ir_features.equal_nodes())
    first, second, _ = model.graph.nodes
    assert first != second
    assert first.inputs[0] is second.inputs[0]
    assert Variable("x") != Variable("x")
    assert len({Variable("x"), Variable("x"), constant("x", 1), constant("x", 1)}) == 4


def test_graphsurgeon_idioms_work() -> None:
    model = chain("Relu", "Neg", "Abs")
    named, node = tensors(model), nodes(model)
    node["c"].inputs[0] = named["a"]
    assert node["c"].i() is node["a"]
    assert node["b"].outputs[0].outputs == []
    node["b"].outputs.clear()
    node["b"].inputs.clear()
    model.graph.nodes.remove(node["b"])
    extra = Node("Exp", inputs=[named["c"]], outputs=[Variable("d", np.float32, (2,))])
    model.graph.nodes.append(extra)
    model.graph.outputs = [extra.outputs[0]]
    assert written(model) == ["Relu(x)->a", "Abs(a)->c", "Exp(c)->d"]


# Substitution -------------------------------------------------------------------------------------


def test_substitute_inside_the_graph() -> None:
    model = chain("Relu", "Identity", "Add:a")
    named = tensors(model)
    substitute(named["b"], named["a"], model.graph, model.pinned())
    assert erase([nodes(model)["b"]], model.pinned()) == 1
    assert written(model) == ["Relu(x)->a", "Add(a, a)->c"]


def test_substitute_a_graph_output_keeps_its_name() -> None:
    model = chain("Relu", "Neg", "Identity")
    named, identity = tensors(model), nodes(model)["c"]
    reader = Node("Abs", inputs=[named["b"]], outputs=[Variable("d")])
    model.graph.nodes.append(reader)
    model.graph.outputs.append(reader.outputs[0])
    substitute(named["c"], named["b"], model.graph, model.pinned())
    erase([identity], model.pinned())
    assert written(model) == ["Relu(x)->a", "Neg(a)->c", "Abs(c)->d"]


def test_substitute_what_branches_read() -> None:
    proto = if_model(branch("Neg", "t", ["h"]), branch("Abs", "e", ["h"]))
    proto.graph.node.insert(0, helper.make_node("Identity", ["x"], ["h"]))
    model = Model.from_proto(proto)
    named = tensors(model)
    identity = model.graph.nodes[0]
    substitute(named["h"], named["x"], model.graph, model.pinned())
    erase([identity], model.pinned())
    assert written(model) == ["If(c)->y"]
    branches = [a.g.node[0] for a in model.proto().graph.node[0].attribute]
    assert [list(node.input) for node in branches] == [["x"], ["x"]]


def test_substitute_declines() -> None:
    model = Model.from_proto(ir_features.branches_read_outer_values())
    model.graph.outputs.append(tensors(model)["h"])
    named, pinned = tensors(model), model.pinned()
    other = next(node for node in model.nodes() if node.op == "Add")
    cases: list[tuple[Tensor, Tensor, Graph]] = [
        (named["y"], named["x"], model.graph),  # an input has no producer to rename
        (named["y"], constant("k", np.zeros(2)), model.graph),
        (named["y"], named["h"], model.graph),  # an output itself
    ]
    for old, new, graph in cases:
        before = model.to_bytes()
        with pytest.raises(Declined, match="node of its own"):
            substitute(old, new, graph, pinned)
        assert model.to_bytes() == before
    assert other.graph is not None
    model.graph.outputs.pop()
    with pytest.raises(Declined, match="outer graph"):
        substitute(other.graph.outputs[0], named["h"], other.graph, model.pinned())


def test_replace_uses_counts_every_use() -> None:
    model = chain("Relu", "Add:a", "Add:a", initializers=("w",))
    named = tensors(model)
    weight = next(t for t in model.graph.initializers if t.name == "w")
    replace_uses(named["a"], weight)
    assert named["a"].outputs == []
    assert [node.name for node in weight.outputs] == ["b", "b", "c"]
    assert written(model) == ["Relu(x)->a", "Add(w, w)->b", "Add(b, w)->c"]


def test_set_inputs() -> None:
    model = chain("Relu", "Add:w", initializers=("w",))
    named = tensors(model)
    set_inputs(nodes(model)["b"], [named["x"], absent(), named["x"]])
    assert release([named["a"], named["w"]], model.pinned()) == 1
    assert written(model) == ["Add(x, , x)->b"]
    assert initializers(model) == []


# Erasing ------------------------------------------------------------------------------------------


def test_set_input_changes_one_slot() -> None:
    node, x, new = Node("Add", "", {}, []), Variable("x"), Variable("new")
    set_inputs(node, [x, x])
    set_input(node, 1, new)
    assert [t.name for t in node.inputs] == ["x", "new"]
    assert (x.outputs, new.outputs) == ([node], [node])


def test_set_output_leaves_the_old_tensor_without_a_producer() -> None:
    old, new = Variable("old"), Variable("new")
    node = Node("Abs", "", {}, [], [old])
    set_output(node, 0, new)
    assert (list(node.outputs), old.inputs, new.inputs) == ([new], [], [node])


def test_a_twin_shares_the_value() -> None:
    first = constant("a", np.ones(3, np.float32))
    assert first.twin("b").values is first.values


def test_erase_takes_what_only_it_needed() -> None:
    model = chain("Add:w", "Neg", "Add:v", initializers=("w", "v", "unused"))
    named = tensors(model)
    model.graph.outputs[:] = [named["x"]]
    assert erase([nodes(model)["c"]], model.pinned()) == 3
    assert written(model) == []
    assert initializers(model) == ["unused"], "it was useless before"


def test_erase_leaves_what_others_need() -> None:
    model = chain("Add:w", "Neg", "Add:w", initializers=("w",))
    named = tensors(model)
    model.graph.outputs[:] = [named["a"]]
    assert erase([nodes(model)["c"]], model.pinned()) == 2
    assert written(model) == ["Add(x, w)->a"]
    assert initializers(model) == ["w"]


def test_a_dropped_constant_that_is_read_again_stays() -> None:
    model = chain("Relu", "Add:w", initializers=("w",))
    named, node = tensors(model), nodes(model)
    set_inputs(node["b"], [named["a"], named["a"]])
    release([named["w"]], model.pinned())
    assert initializers(model) == []
    set_inputs(node["b"], [named["a"], named["w"]])
    assert initializers(model) == ["w"]


def test_constants_that_branches_read_stay() -> None:
    model = Model.from_proto(ir_features.branches_read_outer_values())
    weight = tensors(model)["w"]
    model.graph.nodes.append(Node("Neg", inputs=[weight], outputs=[Variable("z")]))
    assert erase([model.graph.nodes[-1]], model.pinned()) == 1
    assert initializers(model) == ["w"]
    the_if = next(node for node in model.graph.nodes if node.op == "If")
    model.graph.outputs[:] = [tensors(model)["x"]]
    assert erase([the_if], model.pinned()) == 2, "the node that only a branch read goes too"
    assert initializers(model) == []
    assert written(model) == []


def test_erasing_twice_counts_once() -> None:
    model = chain("Relu", "Neg")
    node = nodes(model)["b"]
    model.graph.outputs.clear()
    assert erase([node, node], model.pinned()) == 2
    assert erase([node], model.pinned()) == 0


def test_annotated_tensors_are_pinned() -> None:
    proto = ir_features.quantization_annotation()
    proto.graph.node.append(helper.make_node("Neg", ["scale"], ["z"]))
    model = Model.from_proto(proto)
    erase([model.graph.nodes[-1]], model.pinned())
    model.compact()
    assert initializers(model) == ["scale"]
    assert len(model.proto().graph.quantization_annotation) == 1


def test_annotations_go_with_their_tensors() -> None:
    proto = ir_features.quantization_annotation()
    proto.graph.node.insert(0, helper.make_node("Neg", ["x"], ["z"]))
    proto.graph.quantization_annotation.add(tensor_name="z")
    model = Model.from_proto(proto)
    erase([model.graph.nodes[0]], model.pinned())
    notes = model.proto().graph.quantization_annotation
    assert [note.tensor_name for note in notes] == ["x"]


def test_is_used_and_producer() -> None:
    model = chain("Relu", "Neg")
    named, node = tensors(model), nodes(model)
    assert producer(named["a"]) is node["a"]
    assert producer(named["x"]) is None
    assert is_used(node["b"], model.pinned())
    assert not is_used(node["b"], frozenset())


# New constants ------------------------------------------------------------------------------------


def grown(proto: ModelProto, *places: Callable[[Model], Graph]) -> ModelProto:
    """Let one node in each of *places* read one new constant."""
    model = Model.from_proto(proto)
    made = constant(model.names.fresh("new"), np.arange(3.0))
    for index, place in enumerate(places):
        node = Node("Neg", inputs=[made], outputs=[Variable(f"n{index}")])
        place(model).nodes.append(node)
    model.compact()
    model.check()
    after = model.proto()
    assert Model.from_proto(after).to_bytes() == model.to_bytes()
    return after


def main(model: Model) -> Graph:
    return model.graph


def first_branch(model: Model) -> Graph:
    return list(walk(model.graph))[1]


def second_branch(model: Model) -> Graph:
    return list(walk(model.graph))[2]


def test_a_constant_is_declared_where_all_its_readers_see_it() -> None:
    proto = ir_features.branches_read_outer_values()

    def homes(*places: Callable[[Model], Graph]) -> list[list[str]]:
        graph = grown(proto, *places).graph
        branches = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
        return [[t.name for t in g.initializer] for g in (graph, *branches)]

    assert homes(main) == [["w", "new"], [], []]
    assert homes(first_branch) == [["w"], ["new"], []]
    assert homes(first_branch, second_branch) == [["w", "new"], [], []]
    assert homes(first_branch, main) == [["w", "new"], [], []]


def test_a_constant_of_a_function_becomes_a_node() -> None:
    after = grown(ir_features.local_function(), lambda model: model.functions[0])
    first = after.functions[0].node[0]
    assert (first.op_type, list(first.output)) == ("Constant", ["new"])


def test_old_files_get_constant_nodes() -> None:
    after = grown(ir_features.MODELS["initializer_is_input_ir3"](), main)
    assert [t.name for t in after.graph.initializer] == ["v", "w"]
    assert after.graph.node[0].op_type == "Constant"


def test_values_of_a_folded_node_become_an_initializer() -> None:
    model = chain("Relu", "Neg")
    node, result = nodes(model)["a"], tensors(model)["a"]
    node.outputs.clear()
    result.to_constant(np.ones(2, np.float32))  # type: ignore[union-attr]
    erase([node], model.pinned())
    assert written(model) == ["Neg(a)->b"]
    assert numpy_helper.to_array(model.proto().graph.initializer[0]).tolist() == [1, 1]


# Sorting ------------------------------------------------------------------------------------------


def ops(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_sorting_sorted_graphs_moves_nothing() -> None:
    for build in ir_features.MODELS.values():
        model = Model.from_proto(build())
        before, order = model.to_bytes(), [node for g in model.graphs() for node in g.nodes]
        with contextlib.suppress(ModelError):  # of cycles
            if model.sort():
                continue
        assert model.to_bytes() == before
        assert [node for graph in model.graphs() for node in graph.nodes] == order


def test_sorting_is_stable() -> None:
    made = [
        helper.make_node("Neg", ["b"], ["c"], name="c"),
        helper.make_node("Neg", ["x"], ["q"], name="q"),
        helper.make_node("Neg", ["x"], ["a"], name="a"),
        helper.make_node("Neg", ["a"], ["b"], name="b"),
        helper.make_node("Neg", ["x"], ["p"], name="p"),
    ]
    model = Model.from_proto(ir_features.model(made, [info("x")], [info("c")]))
    assert model.sort()
    assert ops(model.graph) == ["q", "a", "b", "c", "p"]
    assert not model.sort()


def test_sorting_heeds_what_branches_read() -> None:
    model = Model.from_proto(ir_features.branches_read_what_is_defined_later())
    assert model.sort()
    assert [node.op for node in model.graph.nodes] == ["Neg", "If"]
    model = Model.from_proto(ir_features.nested_branches())
    assert model.sort()
    assert [node.op for node in second_branch(model).nodes] == ["Neg", "If"]
    onnx.checker.check_model(model.proto())


def test_sorting_heeds_a_branch_that_returns_an_outer_value() -> None:
    bare = helper.make_graph([], "b", [], [info("h")])
    proto = if_model(bare, branch("Neg", "e"))
    proto.graph.node.append(helper.make_node("Neg", ["x"], ["h"]))
    model = Model.from_proto(proto)
    assert [t.name for found in captured(model.graph).values() for t in found] == ["e", "x", "h"]
    assert model.sort()
    assert [node.op for node in model.graph.nodes] == ["Neg", "If"]


def long_chain(count: int) -> Iterator[NodeProto]:
    for index in range(count):
        yield helper.make_node("Neg", [f"t{index}"], [f"t{index + 1}"])


def reversed_chain(count: int) -> Model:
    made = list(long_chain(count))[::-1]
    return Model.from_proto(ir_features.model(made, [info("t0")], [info(f"t{count}")]))


def test_sorting_a_reversed_chain() -> None:
    model = reversed_chain(3000)
    assert sort(model.graph)
    assert [node.outputs[0].name for node in model.graph.nodes[:2]] == ["t1", "t2"]
    assert model.proto().graph.node[-1].output[0] == "t3000"


@pytest.mark.slow
def test_large_graphs_are_cheap() -> None:
    model = reversed_chain(100_000)
    start = time.process_time()
    model.sort()
    model.check()
    assert model.names.fresh("t5") == "t5_0"
    assert erase([model.graph.nodes[-1]], frozenset()) == 100_000
    model.compact()
    assert not model.graph.nodes
    assert time.process_time() - start < 10


@pytest.mark.slow
def test_bulk_replacement_is_linear() -> None:
    made = [helper.make_node("Add", ["x", "x"], [f"t{index}"]) for index in range(100_000)]
    model = Model.from_proto(ir_features.model(made, [info("x")], [info("t0")]))
    start = time.process_time()
    replace_uses(model.graph.inputs[0], constant("k", 1.0))
    assert time.process_time() - start < 5


# Names --------------------------------------------------------------------------------------------


def test_fresh_names_never_clash() -> None:
    names = Names(lambda: {"a", "a_0", "a_2", "t", "_0"})
    hints = ["a", "a_7", "a_0", "b", "b_1", "", "_3", "t", "a_0_1", "a"] * 20
    made = [names.fresh(hint) for hint in hints]
    assert len({*made, "a", "a_0", "a_2", "t", "_0"}) == len(made) + 5
    assert made[:4] == ["a_1", "a_3", "a_4", "b"]


def test_released_names_are_given_again() -> None:
    names = Names(lambda: {"a", "a_1"})
    made = [names.fresh(hint) for hint in ("a", "a", "b", "b")]
    names.release([made[0], made[2], made[3]])
    again = [names.fresh(hint) for hint in ("a", "a", "b", "b")]
    assert (made, again) == (["a_0", "a_2", "b", "b_0"], ["a_0", "a_3", "b", "b_0"])


def test_renewed_names_are_those_of_now() -> None:
    borne = {"a"}
    names = Names(lambda: set(borne))
    made = [names.fresh("a"), names.fresh("b")]
    borne.add("b")
    names.renew()
    assert [*made, names.fresh("a"), names.fresh("b")] == ["a_0", "b", "a_0", "b_0"]


def test_the_shortest_names_are_new() -> None:
    names = Names(lambda: {"b", "aa"})
    made = [names.shortest() for _ in range(200)]
    assert len({*made, "b", "aa"}) == 202
    assert max(map(len, made)) == 2


@pytest.mark.parametrize("name", ir_features.MODELS)
def test_fresh_names_avoid_everything_in_the_model(name: str) -> None:
    proto = ir_features.MODELS[name]()
    names = Model.from_proto(proto).names
    for graph in (proto.graph, *(a.g for n in proto.graph.node for a in n.attribute)):
        used = {tensor.name for tensor in graph.initializer}
        used |= {declared.name for declared in (*graph.value_info, *graph.input)}
        used |= {out for node in graph.node for out in (*node.input, *node.output)}
        assert not [taken for taken in used if names.fresh(taken or "t") == taken]


# What users' passes make --------------------------------------------------------------------------


def test_stock_objects_are_adopted() -> None:
    model = chain("Relu", "Neg")
    named = tensors(model)
    weight = gs.Constant("stock_w", np.ones(2, np.float32))
    middle, last = gs.Variable("m"), gs.Variable("z", np.float32, [2])
    first = gs.Node("Add", "add", {}, [named["b"], weight], [middle])
    second = gs.Node("LeakyRelu", "leak", {"alpha": 0.5}, [middle], [last])
    model.graph.nodes += [first, second]
    model.graph.outputs = [last]
    made = written(model)
    assert made[2:] == ["Add(b, stock_w)->m", "LeakyRelu(m)->z"]
    assert model.proto().graph.node[3].attribute[0].f == 0.5
    assert model.proto().graph.output[0] == info("z")
    assert initializers(model) == ["stock_w"]
    assert all(type(node) is Node and node.graph is model.graph for node in model.nodes())
    assert {type(t) for t in tensors(model).values()} == {Variable, Constant}


def test_a_stock_graph_in_a_stock_node_is_adopted() -> None:
    model = chain("Relu")
    named = tensors(model)
    inner = [gs.Variable(name, np.float32, [2]) for name in ("t", "e")]
    bodies = [
        gs.Graph([gs.Node("Add", inputs=[named["a"], gs.Constant(f"k{t.name}", np.ones(2, "f4"))],
                          outputs=[t])], outputs=[t], name=f"body_{t.name}")
        for t in inner
    ]  # fmt: skip
    condition, out = gs.Variable("c", bool, []), gs.Variable("y", np.float32, [2])
    branches = {"then_branch": bodies[0], "else_branch": bodies[1]}
    model.graph.nodes.append(gs.Node("If", "if", branches, [condition], [out]))
    model.graph.inputs.append(condition)
    model.graph.outputs = [out]
    assert written(model)[1:] == ["If(c)->y"]
    onnx.checker.check_model(model.proto(), full_check=True)
    assert [g.name for g in model.graphs()] == ["g", "body_t", "body_e"]
