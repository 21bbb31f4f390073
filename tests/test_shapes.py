"""What is said of a tensor holds whenever the model runs."""

import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxslim.ir import Constant, Model, Tensor, constant
from onnxslim.shapes import Facts, Sym, infer
from onnxslim.shapes.equations import Solution
from onnxslim.shapes.expr import Atom, Expr, floor_div, lower, maximum, name, unknown


def load(body: str, inputs: str = "float[N, 4] x", outputs: str = "y", opset: int = 21) -> Model:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {body}"""
    return Model.from_proto(parser.parse_model(text))


def tensors(model: Model) -> dict[str, Tensor]:
    """Return the tensors of all graphs by name."""
    found: dict[str, Tensor] = {}
    for graph in model.graphs():
        found.update((t.name, t) for t in graph.inputs)
        for node in graph.nodes:
            found.update((t.name, t) for t in (*node.inputs, *node.outputs))
    return found


def shape_of(model: Model, name: str = "y") -> tuple[object, ...] | None:
    return infer(model).shape(tensors(model)[name])


# What is known ------------------------------------------------------------------------------------


def test_facts_about_a_tensor() -> None:
    model = load("{ y = Transpose(x) z = Relu(w) }", "float[N, 4] x, int32[3, 2] w", "y, z")
    facts, named = infer(model), tensors(model)
    assert facts.shape(named["y"]) == (4, "N")
    assert facts.rank(named["y"]) == 2
    assert facts.static(named["y"]) is None
    assert facts.static(named["z"]) == (3, 2)
    assert facts.elem_type(named["y"]) == TensorProto.FLOAT
    assert facts.elem_type(named["z"]) == TensorProto.INT32


def test_a_constant_answers_for_itself() -> None:
    facts, made = Facts(), constant("c", np.zeros((2, 0), np.float16))
    assert facts.shape(made) == facts.static(made) == (2, 0)
    assert facts.elem_type(made) == TensorProto.FLOAT16


def test_a_tensor_made_later_is_unknown() -> None:
    model = load("{ y = Relu(x) }")
    facts = infer(model)
    stranger = tensors(load("{ y = Relu(x) }"))["y"]
    assert facts.shape(stranger) is None
    assert facts.rank(stranger) is None
    assert facts.static(stranger) is None


def test_tensors_of_sibling_graphs_are_told_apart_though_they_share_names() -> None:
    model = load("""{
        y = If(c) <
            then_branch = t () => (r) { s = Transpose(x) r = Relu(s) },
            else_branch = e () => (r) { s = Relu(x) r = Transpose(s) }
        >
    }""", "bool c, float[N, 4] x")  # fmt: skip
    facts, node = infer(model), model.graph.nodes[0]
    inner = [graph.nodes[0].outputs[0] for graph in node.subgraphs()]
    assert [facts.shape(tensor) for tensor in inner] == [(4, "N"), ("N", 4)]
    assert facts.shape(node.outputs[0]) == (4, "N")


def test_constants_in_front_of_an_old_model_do_not_shift_the_facts() -> None:
    model = load("{ z = Transpose(x) y = Relu(z) }", opset=8)
    proto = model.proto()
    proto.ir_version = 3
    model = Model.from_proto(proto)
    relu = model.graph.nodes[1]
    relu.op = "Add"
    relu.inputs.append(constant("one", np.ones(1, np.float32)))
    assert shape_of(model) == (4, "N")


# What is not believed -----------------------------------------------------------------------------


def test_a_stale_declaration_is_not_believed() -> None:
    model = load("{ z = Transpose(x) y = Relu(z) }", outputs="float[9, 9] y")
    proto = model.proto()
    proto.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [7, 7]))
    model = Model.from_proto(proto)
    assert shape_of(model, "z") == shape_of(model, "y") == (4, "N")


def test_a_stale_declaration_in_a_subgraph_is_not_believed() -> None:
    model = load("""{
        y = Loop(n, c, x) <body = b (int64 i, bool d, float[3] v) => (bool e, float[3] w) {
            e = Identity(d)
            w = Concat<axis = 0>(v, v)
        }>
    }""", "int64 n, bool c, float[3] x")  # fmt: skip
    assert shape_of(model, "v") != (3,)
    assert shape_of(model, "w") != (3,)
    assert shape_of(model, "y") != (3,)


@pytest.mark.parametrize("inputs", ["float[N] x, float[N] w", "float[N, N] x, float[N] w"])
def test_one_name_on_two_input_dimensions_proves_nothing(inputs: str) -> None:
    model = load("{ y = Relu(x) z = Relu(w) }", inputs, "y, z")
    y, z = shape_of(model, "y"), shape_of(model, "z")
    assert y is not None
    assert z is not None
    assert len({*y, *z}) == len(y) + len(z)


def test_names_stay_as_they_are_where_they_occur_once() -> None:
    assert shape_of(load("{ y = Relu(x) }", "float[batch, 4] x")) == ("batch", 4)


def test_a_name_that_looks_like_one_of_ours_is_kept_apart() -> None:
    model = load("{ y = Relu(x) z = Relu(w) }", "float[N, M] x, float[N] w, float[K] v", "y, z")
    proto = model.proto()
    proto.graph.input[2].type.tensor_type.shape.dim[0].dim_param = "N@x"
    model = Model.from_proto(proto)
    assert shape_of(model, "v") != (shape_of(model, "y") or ())[:1]


def test_a_negative_dimension_is_an_unknown_one() -> None:
    proto = load("{ y = Relu(x) }").proto()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    shape = shape_of(Model.from_proto(proto))
    assert shape is not None
    assert not isinstance(shape[0], int)
    assert shape[1] == 4


def test_an_initializer_that_may_be_overridden_is_no_constant() -> None:
    proto = load("{ y = Reshape(x, s) }", "float[2, 6] x, int64[2] s").proto()
    proto.graph.initializer.append(numpy_helper.from_array(np.array([3, 4]), "s"))
    free = Model.from_proto(proto)
    assert infer(free).static(tensors(free)["y"]) is None
    proto.ir_version, proto.opset_import[0].version = 3, 8
    fixed = Model.from_proto(proto)
    assert infer(fixed).static(tensors(fixed)["y"]) == (3, 4)


def test_a_large_weight_that_lies_elsewhere_still_has_a_shape() -> None:
    weight = numpy_helper.from_array(np.zeros((4, 300), np.float32), "w")
    proto = load("{ y = MatMul(x, w) }").proto()
    proto.graph.initializer.append(weight)
    assert shape_of(Model.from_proto(proto)) == ("N", 300)


def test_a_sparse_initializer_has_the_shape_of_what_it_stands_for() -> None:
    proto = load("{ y = Add(x, w) }").proto()
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(np.ones(2, np.float32), "w"),
            numpy_helper.from_array(np.arange(2)),
            [4],
        )
    )
    model = Model.from_proto(proto)
    assert infer(model).static(tensors(model)["w"]) == (4,)


# What ONNX does not know --------------------------------------------------------------------------


def test_an_opset_from_the_future_leaves_the_inputs_known() -> None:
    proto = load("{ y = Relu(x) }").proto()
    proto.opset_import[0].version = 999
    assert shape_of(Model.from_proto(proto), "x") == ("N", 4)


def test_an_operator_of_a_domain_that_is_not_imported_hides_only_what_depends_on_it() -> None:
    proto = load("{ z = Relu(x) y = Relu(x) }", outputs="y, z").proto()
    proto.graph.node[0].domain = "com.microsoft"
    assert shape_of(Model.from_proto(proto)) == ("N", 4)


def test_function_bodies_are_not_looked_at() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21, "local" : 1]>
    g (float[N] x) => (y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 21]> twice (p) => (q) { q = Add(p, p) }
    """
    model = Model.from_proto(parser.parse_model(text))
    assert shape_of(model) == ("N",)
    assert shape_of(model, "q") is None


@pytest.mark.slow
def test_time_grows_with_the_number_of_nodes() -> None:
    def seconds(count: int) -> float:
        links = [f"t{i + 1} = Relu(t{i})" for i in range(count)]
        model = load("{" + "\n".join(links) + "}", "float[N] t0", f"t{count}")
        start = time.process_time()
        infer(model)
        return time.process_time() - start

    assert seconds(40_000) < 8 * max(seconds(10_000), 0.1)


def test_a_constant_node_is_a_constant() -> None:
    model = load("{ c = Constant<value = int64[2] {3, 4}>() y = Reshape(x, c) }", "float[N] x")
    assert isinstance(tensors(model)["c"], Constant)
    assert infer(model).static(tensors(model)["y"]) == (3, 4)


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("Normalizer (x)", ("N", 4)),
        ("Scaler (x)", ("N", 4)),
        ("ArrayFeatureExtractor (x, i)", ("N", 2)),
        ("SVMClassifier (x)", ("N",)),
    ],
)
def test_operators_of_classical_learning(call: str, shape: tuple[object, ...]) -> None:
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>
    g (float[N, 4] x) => (y) <int64[1, 2] i = {{0, 1}}> {{ y = ai.onnx.ml.{call} }}""")
    assert shape_of(Model.from_proto(proto)) == shape


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("Squeeze<axes = [-1]>(x)", (3, 2)),
        ("Unsqueeze<axes = [-2]>(x)", (3, 2, 1, 1)),
        ("Slice<axes = [-2], starts = [0], ends = [1]>(x)", (3, 1, 1)),
    ],
)
def test_axes_from_the_end_are_read_as_onnxruntime_reads_them(
    call: str, shape: tuple[object, ...]
) -> None:
    facts_of = load(f"{{ z = {call} y = Relu(z) }}", "float[3, 2, 1] x", opset=9)
    assert shape_of(facts_of) == shape


def test_equal_names_of_two_models_may_have_other_bounds() -> None:
    bounds = [lower(Sym((((Atom("n", low),), 1),)) + 1) for low in (0, 1, None, 0)]
    assert bounds == [1, 2, None, 1]


def test_less_than_nothing_is_no_size() -> None:
    model = load("<int64[2] less = {-3, 0}> { y = Pad(x, less) }", "float[2] x")
    (dim,) = infer(model).dims(tensors(model)["y"]) or ()
    assert not isinstance(dim, int)


def test_of_what_does_not_fit_nothing_is_known() -> None:
    """onnxruntime leaves empty tensors out of a Concat, whatever their other sizes are."""
    model = load("{ y = Concat<axis = 0>(w, x) }", "float[N, 4] x, float[0, 1] w")
    shape = shape_of(model) or ()
    assert len(shape) == 2
    assert not any(isinstance(dim, int) for dim in shape)


# What a node proves by not failing ----------------------------------------------------------------

_HALVED = "MaxPool<kernel_shape = [2], strides = [2]>"


def test_joined_maps_make_quotients_equal() -> None:
    """Rounding down, a quarter doubled is a half only where a Concat joins the two."""
    apart = load(
        f"""<float[3] s = {{1, 1, 2}}> {{ h = {_HALVED}(x) q = {_HALVED}(h) u = Resize(q, , s)
        y = Add(u, u) z = Relu(h) }}""",
        "float[1, 1, N] x",
        "y, z",
    )
    assert shape_of(apart, "u") != shape_of(apart, "h")
    joined = load(
        f"""<float[3] s = {{1, 1, 2}}> {{ h = {_HALVED}(x) q = {_HALVED}(h) u = Resize(q, , s)
        y = Concat<axis = 1>(u, h) }}""",
        "float[1, 1, N] x",
    )
    assert shape_of(joined, "u") == shape_of(joined, "h")


def test_a_map_joined_with_an_input_is_what_the_input_is_solved_for() -> None:
    model = load(
        f"{{ h = {_HALVED}(x) y = Concat<axis = 1>(h, w) }}", "float[1, 1, N] x, float[1, 1, M] w"
    )
    assert shape_of(model, "h") == shape_of(model, "w") == (1, 1, "M")


def test_values_are_what_equations_say() -> None:
    model = load(
        f"""<int64[1] two = {{2}}> {{ h = {_HALVED}(x) y = Concat<axis = 1>(h, w)
        n = Shape<start = 2>(x) d = Div(n, two) z = Expand(d, d) }}""",
        "float[1, 1, N] x, float[1, 1, M] w",
        "y, z",
    )
    facts, named = infer(model), tensors(model)
    assert facts.value(named["d"]) == (facts.dims(named["w"]) or ())[2:]


def test_what_only_a_branch_computes_proves_nothing() -> None:
    model = load(
        f"""{{ h = {_HALVED}(x) y = If(c) <
            then_branch = a () => (p) {{ p = Concat<axis = 1>(h, w) }},
            else_branch = b () => (q) {{ q = Concat<axis = 1>(w, w) }}> }}""",
        "float[1, 1, N] x, float[1, 1, M] w, bool c",
    )
    assert shape_of(model, "h") != shape_of(model, "w")


@pytest.mark.parametrize(
    ("left", "right", "before", "after"),
    [
        (name("n"), name("m"), name("n") * 2, name("m") * 2),
        (name("n"), 3, name("n") + 1, 4),
        (name("n"), name("m") + 2, floor_div(name("n"), 2), floor_div(name("m"), 2) + 1),
        (name("n") - 2, name("m"), name("n"), name("m") + 2),
        (
            floor_div(name("n"), 2),
            name("m"),
            maximum(floor_div(name("n"), 2), 3),
            maximum(name("m"), 3),
        ),
        (name("n") * 2, name("m") * 3, name("n"), name("n")),
        (name("n"), name("n") * name("m"), name("n"), name("n")),
        (name("n"), -1, name("n"), name("n")),
        (unknown(1), name("n"), unknown(1), unknown(1)),
    ],
)
def test_equations_are_solved_for_one_atom(
    left: Expr, right: Expr, before: Expr, after: Expr
) -> None:
    solution = Solution()
    solution.add(left, right)
    assert solution.apply(before) == after


def test_a_quotient_by_what_is_zero_is_left_as_it_is() -> None:
    solution, quotient = Solution(), floor_div(name("n"), name("m"))
    assert solution.add(name("m"), 0)
    assert solution.apply(quotient) == quotient


def test_an_equation_that_others_imply_adds_nothing() -> None:
    n, m, k, solution = name("n"), name("m"), name("k"), Solution()
    assert solution.add(n, m * 2)
    assert solution.add(m, k + 1)
    assert not solution.add(n, k * 2 + 2)
    assert solution.apply(n) == solution.apply(m) * 2 == solution.apply(k) * 2 + 2


def test_equations_that_go_round_in_circles_come_to_an_end() -> None:
    n, m, solution = name("n"), name("m"), Solution()
    assert solution.add(m, floor_div(n, 2))
    assert not any([solution.add(n, floor_div(m, 2) + 7) for _ in range(9)][1:])
