"""What nobody reads."""

import pytest
from onnx import TensorProto, helper

from kit import assert_declines, assert_rewrites, model
from onnxslim import Context, Pipeline
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_dead import DropDead

DROP = DropDead()


def output_names(of: Model) -> list[str]:
    """Return the names of the outputs of the only node."""
    (node,) = of.nodes()
    return [tensor.name for tensor in node.outputs]


# Nodes --------------------------------------------------------------------------------------------


def test_a_chain_that_nobody_reads() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x) b = Neg(a) y = Abs(x) }")
    assert_rewrites(before, DROP, ["Abs"], changes=2)


def test_a_random_operator_that_nobody_reads() -> None:
    before = model("g (float[N] x) => (float[N] y) { r = RandomNormalLike(x) y = Abs(x) }")
    assert_rewrites(before, DROP, ["Abs"])


def test_a_branch_that_nobody_reads() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x) y = Abs(x)
        b = If (c) <
            then_branch = t () => (float[N] u) { u = Neg(a) },
            else_branch = e () => (float[N] v) { v = Exp(a) }
        >
    }""")
    after = assert_rewrites(before, DROP, ["Abs"], changes=2)
    assert [tensor.name for tensor in after.graph.inputs] == ["c", "x"]


def test_inside_a_branch() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[N] u) { d = Neg(a) u = Abs(x) },
            else_branch = e () => (float[N] v) { v = Exp(x) }
        >
    }""")
    assert_rewrites(before, DROP, ["If", "Abs", "Exp"], changes=2)


def test_what_only_a_branch_reads_stays() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[N] u) { u = Neg(a) },
            else_branch = e () => (float[N] v) { v = Exp(x) }
        >
    }""")
    assert_declines(before, DROP)


def test_every_output_of_a_loop_body_stays() -> None:
    before = model("""g (float[N] x) => (float[N] y) <int64 n = {3}, bool t = {1}> {
        y, s = Loop (n, t, x)
        <body = b (int64 i, bool go, float[N] v) => (bool go2, float[N] w, float[N] scan) {
            go2 = Identity(go) w = Neg(v) scan = Abs(v)
        }>
    }""")
    assert_declines(before, DROP)


def test_inside_a_function() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Relu(p) q = Neg(p) }""")
    assert_rewrites(before, DROP, ["F", "Neg"])


# Initializers -------------------------------------------------------------------------------------


def test_an_initializer_that_nobody_reads() -> None:
    before = model("g (float[N] x) => (float[N] y) <float[2] c = {1, 2}> { y = Abs(x) }")
    after = assert_rewrites(before, DROP, ["Abs"])
    assert not after.proto().graph.initializer


def test_an_initializer_that_only_a_dead_node_reads() -> None:
    before = model("""g (float[N] x) => (float[N] y) <float[2] c = {1, 2}> {
        d = Neg(c) y = Abs(x)
    }""")
    after = assert_rewrites(before, DROP, ["Abs"])
    assert not after.proto().graph.initializer


def test_an_initializer_that_the_caller_may_replace_stays() -> None:
    before = model("g (float[N] x, float[2] c = {1, 2}) => (float[N] y) { y = Abs(x) }")
    assert_declines(before, DROP)


def test_an_initializer_that_is_an_output_stays() -> None:
    before = model(
        "g (float[N] x) => (float[N] y, float[2] c) <float[2] c = {1, 2}> { y = Abs(x) }"
    )
    assert_declines(before, DROP)


def test_an_initializer_of_a_branch() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        y = If (c) <
            then_branch = t () => (float[N] u) <float[2] k = {1, 2}> { u = Abs(x) },
            else_branch = e () => (float[N] v) { v = Exp(x) }
        >
    }""")
    assert_rewrites(before, DROP, ["If", "Abs", "Exp"])


def test_inputs_that_nobody_reads_stay() -> None:
    assert_declines(model("g (float[N] x, float[N] z) => (float[N] y) { y = Abs(x) }"), DROP)


def test_before_ir_4_an_initializer_goes_with_its_input() -> None:
    before = model("g (float[N] x, float[2] c = {1, 2}) => (float[N] y) { y = Abs(x) }", 8, 3)
    after = assert_rewrites(before, DROP, ["Abs"])
    assert [info.name for info in after.proto().graph.input] == ["x"]


# Optional outputs ---------------------------------------------------------------------------------


def test_a_trailing_output_goes() -> None:
    before = model("""g (float[1, 1, 4] x) => (float[1, 1, 2] y) {
        y, i = MaxPool<kernel_shape = [2], strides = [2]>(x)
    }""")
    assert output_names(assert_rewrites(before, DROP, ["MaxPool"])) == ["y"]


def test_what_was_left_out_already_is_no_change() -> None:
    proto = model("""g (float[1, 1, 4] x) => (float[1, 1, 2] y) {
        y = MaxPool<kernel_shape = [2], strides = [2]>(x)
    }""").proto()
    proto.graph.node[0].output.append("")
    before = Model.from_proto(proto)
    content = before.to_bytes()
    assert DROP.apply(before, Context()) == 0
    assert before.to_bytes() == content


@pytest.mark.parametrize(
    ("read", "kept"),
    [("y_h", ["", "y_h"]), ("y_c", ["", "", "y_c"]), ("y", ["y"])],
)
def test_other_outputs_keep_their_places(read: str, kept: list[str]) -> None:
    kind = "float[3, 1, 2, 1]" if read == "y" else "float[1, 2, 1]"
    before = model(f"""g (float[3, 2, 1] x) => ({kind} {read})
    <float[1, 4, 1] w = {{1, 2, 3, 4}}, float[1, 4, 1] r = {{4, 3, 2, 1}}> {{
        y, y_h, y_c = LSTM<hidden_size = 1>(x, w, r)
    }}""")
    changes = 2
    assert output_names(assert_rewrites(before, DROP, ["LSTM"], changes)) == kept


def test_an_output_that_a_branch_reads_stays() -> None:
    before = model("""g (bool c, float[1, 1, 4] x) => (float[1, 1, 2] y, int64[1, 1, 2] z) {
        y, i = MaxPool<kernel_shape = [2], strides = [2]>(x)
        z = If (c) <
            then_branch = t () => (int64[1, 1, 2] u) { u = Neg(i) },
            else_branch = e () => (int64[1, 1, 2] v) { v = Abs(i) }
        >
    }""")
    assert_declines(before, DROP)


def test_outputs_that_are_not_optional_stay() -> None:
    before = model("""g (float[4] x) => (float[2] y) <int64[1] k = {2}> { y, i = TopK(x, k) }""")
    assert_declines(before, DROP)


def test_the_number_of_parts_says_how_to_split() -> None:
    before = model("g (float[4] x) => (float[2] y) { y, z = Split(x) }", 13)
    assert_declines(before, DROP)


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_the_number_of_outputs_says_whether_to_train(opset: int) -> None:
    before = model(
        """g (float[2, 1] x) => (float[2, 1] y)
        <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> {
            y, m2, v2, sm, sv = BatchNormalization(x, s, b, m, v)
        }""",
        opset,
    )
    assert_declines(before, DROP)


@pytest.mark.parametrize("opset", [7, 10, 13])
def test_the_mask_of_a_dropout_stays(opset: int) -> None:
    assert_declines(model("g (float[N] x) => (float[N] y) { y, m = Dropout(x) }", opset), DROP)


def test_outputs_of_a_local_function_stay() -> None:
    before = model("""g (float[1, 1, 4] x) => (float[1, 1, 4] y) { y, z = local.MaxPool(x) }
    <domain: "local", opset_import: ["" : 20]> MaxPool (p) => (q, r) { q = Neg(p) r = Abs(p) }""")
    assert_declines(before, DROP)


def test_outputs_of_a_local_function_in_place_of_an_operator_stay() -> None:
    before = model("""g (float[1, 1, 4] x) => (float[1, 1, 4] y) { y, z = MaxPool(x) }
    <domain: "", opset_import: ["" : 20]> MaxPool (p) => (q, r) { q = Neg(p) r = Abs(p) }""")
    assert_declines(before, DROP)


def test_outputs_of_an_unknown_operator_stay() -> None:
    before = model("g (float[N] x) => (float[N] y) { y, z = com.microsoft.Nothing(x) }")
    after, _ = Pipeline((DROP,), check="off")(before)
    assert after is before


# Functions and the rest ---------------------------------------------------------------------------


def test_functions_that_nobody_calls() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20, "local" : 1]> F (p) => (q) { q = local.G(p) }
    <domain: "local", opset_import: ["" : 20]> G (p) => (q) { q = Neg(p) }
    <domain: "local", opset_import: ["" : 20, "local" : 1]> H (p) => (q) { q = local.I(p) }
    <domain: "local", opset_import: ["" : 20]> I (p) => (q) { q = Abs(p) }""")
    after = assert_rewrites(before, DROP, ["F", "G", "Neg"], changes=2)
    assert [function.name for function in after.functions] == ["F", "G"]


def test_a_function_that_only_a_branch_calls_stays() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        y = If (c) <
            then_branch = t () => (float[N] u) { u = local.F(x) },
            else_branch = e () => (float[N] v) { v = Exp(x) }
        >
    }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { q = Neg(p) }""")
    assert_declines(before, DROP)


def test_a_function_that_only_a_dead_node_calls() -> None:
    before = model("""g (float[N] x) => (float[N] y) { a = local.F(x) y = Abs(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { q = Neg(p) }""")
    assert_rewrites(before, DROP, ["Abs"], changes=2)


def test_declared_types_of_nothing() -> None:
    before = model("g (float[N] x) => (float[N] y) <float[3] stranger> { y = Abs(x) }")
    after = assert_rewrites(before, DROP, ["Abs"])
    assert not after.proto().graph.value_info


def test_a_sparse_initializer_that_nobody_reads() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Abs(x) }").proto()
    before.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("c", TensorProto.FLOAT, [1], [2.0]),
            helper.make_tensor("", TensorProto.INT64, [1], [1]),
            [3],
        )
    )
    after, report = Pipeline((DROP,), check="off")(Model.from_proto(before))
    assert report.steps[0].changes == 1
    assert not after.proto().graph.sparse_initializer


def test_parameters_of_a_quantization_annotation_stay() -> None:
    before = model("g (float[N] x) => (float[N] y) <float scale = {0.5}> { y = Abs(x) }").proto()
    note = before.graph.quantization_annotation.add(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    assert_declines(Model.from_proto(before), DROP)
