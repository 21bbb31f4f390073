"""What can be computed before the model runs, where that does not make the file larger."""

import numpy as np
import pytest
from ml_dtypes import bfloat16, int4
from onnx import TensorProto

from kit import assert_declines, assert_rewrites, holding, model, operators
from onnxslim import Pipeline
from onnxslim.ir import Array, Model
from onnxslim.passes.simplify.fold_constants import FoldConstants

FOLD = FoldConstants()


def constants(of: Model) -> list[list[object]]:
    return [constant.values.tolist() for constant in of.constants()]


def ramp(*shape: int, dtype: type = np.float32) -> Array:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# What is folded -----------------------------------------------------------------------------------


def test_a_node_on_constants() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Neg(c) y = Add(x, d)
    }""")
    assert constants(assert_rewrites(before, FOLD, ["Add"])) == [[-1, -2]]


def test_a_chain_counts_once() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Neg(c) e = Exp(d) f = Sqrt(e) y = Add(x, f)
    }""")
    assert_rewrites(before, FOLD, ["Add"])


def test_nodes_on_constant_nodes() -> None:
    before = model("""g (float[2] x) => (float[2] y) {
        c = Constant<value_floats = [1.0, 2.0]>() d = Neg(c) y = Add(x, d)
    }""")
    after = assert_rewrites(before, FOLD, ["Add"])
    assert not [node for node in after.nodes() if node.op == "Constant"]


def test_an_operand_left_out() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}, float m = {1.5}> {
        d = Clip(c, , m) y = Add(x, d)
    }""")
    assert constants(assert_rewrites(before, FOLD, ["Add"])) == [[1, 1.5]]


def test_shape_arithmetic() -> None:
    before = model("""g (float[2, 3] x) => (float[M, N] y)
    <int64[2] s = {2, 3}, int64 i = {0}, int64[1] z = {0}, int64[1] m = {-1}> {
        g = Gather(s, i) u = Unsqueeze(g, z) t = Concat<axis = 0>(u, m) y = Reshape(x, t)
    }""")
    assert constants(assert_rewrites(before, FOLD, ["Reshape"])) == [[2, -1]]


def test_one_of_several_outputs() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[4] c = {1, 2, 3, 4}> {
        a, b = Split<num_outputs = 2>(c) y = Add(x, b)
    }""")
    assert constants(assert_rewrites(before, FOLD, ["Add"])) == [[3, 4]]


def test_several_outputs() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[4] c = {1, 2, 3, 4}> {
        a, b = Split<num_outputs = 2>(c) d = Add(x, b) y = Add(d, a)
    }""")
    assert sorted(constants(assert_rewrites(before, FOLD, ["Add", "Add"]))) == [[1, 2], [3, 4]]


def test_an_output_that_folded_nodes_read_is_not_kept() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[4] c = {1, 2, 3, 4}> {
        a, b = Split<num_outputs = 2>(c) n = Neg(a) d = Add(x, b) y = Add(d, n)
    }""")
    after = assert_rewrites(before, FOLD, ["Add", "Add"], changes=2)
    assert sorted(constants(after)) == [[-1, -2], [3, 4]]


def test_outputs_that_folded_nodes_read_cost_nothing() -> None:
    """To store all eight parts would take more bytes than to split."""
    before = model("""g (float[1] x) => (float[1] y) <float[8] k = {1, 2, 3, 4, 5, 6, 7, 8}> {
        a, b, c, d, e, f, g, h = Split<num_outputs = 8>(k)
        s = Sum(a, b, c, d, e, f, g) t = Add(x, s) y = Add(t, h)
    }""")
    after = assert_rewrites(before, FOLD, ["Add", "Add"], changes=2)
    assert sorted(constants(after)) == [[8], [28]]


def test_the_value_of_a_graph_output_stays_the_output_of_a_node() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] z)
    <float[2] a_constant_with_a_long_name = {1, 2}> {
        d = Neg(a_constant_with_a_long_name) e = Exp(d) z = Neg(e) y = Neg(x)
    }""")
    after = assert_rewrites(before, FOLD, ["Neg"])
    assert [node.op for node in after.nodes()] == ["Constant", "Neg"]
    assert after.graph.outputs[1].inputs[0].op == "Constant"


def test_a_graph_output_that_others_read() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] z)
    <float[2] a_constant_with_a_long_name = {1, 2}> {
        d = Neg(a_constant_with_a_long_name) e = Exp(d) z = Neg(e) y = Add(x, z)
    }""")
    assert_rewrites(before, FOLD, ["Add"])


def test_inside_branches_under_one_name() -> None:
    branch = "{{ k = {0}(c) d = Exp(k) {1} = Add(x, d) }}"
    before = model(f"""g (bool p, float[2] x) => (float[2] y) <float[2] c = {{1, 2}}> {{
        y = If (p) <
            then_branch = t () => (float[2] u) {branch.format("Neg", "u")},
            else_branch = e () => (float[2] v) {branch.format("Abs", "v")}
        >
    }}""")
    after = assert_rewrites(before, FOLD, ["If", "Add", "Add"], changes=2)
    assert len(constants(after)) == 2


def test_inside_a_loop() -> None:
    before = model("""g (float[2] x) => (float[2] y)
    <int64 n = {3}, bool t = {1}, float[2] c = {1, 2}> {
        y = Loop (n, t, x) <body = b (int64 i, bool go, float[2] s) => (bool go2, float[2] s2) {
            go2 = Identity(go) d = Neg(c) s2 = Add(s, d)
        }>
    }""")
    assert_rewrites(before, FOLD, ["Loop", "Identity", "Add"])


def test_a_value_that_a_branch_reads() -> None:
    before = model("""g (bool p, float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Neg(c)
        y = If (p) <
            then_branch = t () => (float[2] u) { u = Add(x, d) },
            else_branch = e () => (float[2] v) { v = Sub(x, d) }
        >
    }""")
    assert_rewrites(before, FOLD, ["If", "Add", "Sub"])


def test_inside_a_function() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        c = Constant<value_floats = [1.0, 2.0]>() d = Neg(c) e = Exp(d) q = Add(p, e)
    }""")
    after = assert_rewrites(before, FOLD, ["F", "Add"])
    assert [node.op_type for node in after.proto().functions[0].node] == ["Constant", "Add"]


def test_before_ir_4_values_are_constant_nodes() -> None:
    text = """g (float[2] x, float[2] a_constant_with_a_long_name = {1, 2}) => (float[2] y) {
        d = Neg(a_constant_with_a_long_name) e = Exp(d) y = Add(x, e)
    }"""
    before = model(text, opset=8, ir=3)
    after = assert_rewrites(before, FOLD, ["Add"])
    assert [node.op_type for node in after.proto().graph.node] == ["Constant", "Add"]


def test_sequences_on_the_way() -> None:
    before = model("""g (float[2] x) => (float[2] y)
    <float[2] c = {1, 2}, float[2] d = {3, 4}, int64 i = {1}> {
        s = SequenceConstruct(c, d) e = SequenceAt(s, i) y = Add(x, e)
    }""")
    assert constants(assert_rewrites(before, FOLD, ["Add"])) == [[3, 4]]


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_half_precision(dtype: type) -> None:
    kind = "float16" if dtype is np.float16 else "bfloat16"
    before = holding(
        model(f"""g ({kind}[6] x) => ({kind}[6] y) {{
            d = Reshape(c, s) y = Concat<axis = 0>(x, d)
        }}"""),
        c=ramp(2, 3, dtype=dtype),
        s=np.array([-1]),
    )
    after = assert_rewrites(before, FOLD, ["Concat"])
    assert [c.dtype for c in after.constants()] == [np.dtype(dtype)]


def test_a_cast_that_makes_weights_smaller() -> None:
    before = holding(
        model("g (float16[64] x) => (float16[64] y) { d = Cast<to = 10>(c) y = Mul(x, d) }"),
        c=ramp(64),
    )
    assert_rewrites(before, FOLD, ["Mul"])


def test_a_transposed_weight() -> None:
    before = holding(
        model("g (float[N, 40] x) => (float[N, 30] y) { d = Transpose(w) y = MatMul(x, d) }"),
        w=ramp(30, 40),
    )
    assert_rewrites(before, FOLD, ["MatMul"])


# What would grow ----------------------------------------------------------------------------------

GROWS = "the file would grow by"


def test_weights_stored_in_fewer_bits() -> None:
    before = holding(
        model("g (float[64] x) => (float[64] y) { d = Cast<to = 1>(c) y = Mul(x, d) }"),
        c=ramp(64, dtype=np.int8),
    )
    assert_declines(before, FOLD, GROWS)


def test_weights_stored_in_fewer_bits_and_scaled() -> None:
    before = holding(
        model("""g (float[64] x) => (float[64] y) <float s = {0.1}> {
            d = Cast<to = 1>(c) e = Mul(d, s) y = Mul(x, e)
        }"""),
        c=ramp(64, dtype=np.int8),
    )
    assert_declines(before, FOLD, GROWS)


def test_weights_stored_in_four_bits() -> None:
    before = holding(
        model(
            "g (int8[64] x) => (int8[64] y) { d = Cast<to = 3>(c) y = Concat<axis = 0>(x, d) }",
            21,
            10,
        ),
        c=(ramp(64) % 8).astype(int4),
    )
    assert_declines(before, FOLD, GROWS)


def test_weights_looked_up_in_a_codebook() -> None:
    before = holding(
        model("""g (float[300] x) => (float[300] y) {
            i = Cast<to = 6>(c) d = Gather(book, i) y = Mul(x, d)
        }"""),
        c=(ramp(300) % 4).astype(np.uint8),
        book=ramp(4),
    )
    assert_declines(before, FOLD, GROWS)


@pytest.mark.parametrize(
    "operation",
    ["ConstantOfShape(n)", "Expand(v, n)", "Tile(v, n)", "Range(zero, many, one)", "EyeLike(grid)"],
)
def test_what_is_short_because_it_is_computed(operation: str) -> None:
    kind = "float[8, 8]" if "Eye" in operation else "float[64]"
    before = model(f"""g ({kind} x) => ({kind} y)
    <int64[1] n = {{64}}, float[1] v = {{1}}, float zero = {{0}}, float many = {{64}},
     float one = {{1}}> {{
        {"grid = ConstantOfShape(two) " if "Eye" in operation else ""}d = {operation} y = Add(x, d)
    }}""")
    if "Eye" in operation:
        before = holding(before, two=np.array([8, 8]))
    assert_declines(before, FOLD, GROWS)


def test_weights_that_others_read_too() -> None:
    before = holding(
        model("""g (float[N, 40] x) => (float[N, 40] y) {
            d = Transpose(w) a = MatMul(x, d) y = MatMul(a, w)
        }"""),
        w=ramp(40, 40),
    )
    assert_declines(before, FOLD, GROWS)


def test_integers_that_are_short_in_the_file() -> None:
    """As varints 300 of them take 300 bytes, as raw data 2,400."""
    ones = ", ".join(["1"] * 300)
    before = model(f"""g (int64[15, 20] x) => (int64[15, 20] y) <int64[20, 15] c = {{{ones}}}> {{
        d = Transpose(c) y = Add(x, d)
    }}""")
    assert_declines(before, FOLD, GROWS)


def test_what_leads_to_a_growing_value_is_folded_instead() -> None:
    before = model("""g (float[64] x) => (float[64] y) <int64[1] n = {32}, int64[1] m = {2}> {
        k = Mul(n, m) d = ConstantOfShape(k) y = Add(x, d)
    }""")
    assert_rewrites(before, FOLD, ["ConstantOfShape", "Add"])


def test_a_value_larger_than_allowed() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Neg(c) y = Add(x, d)
    }""")
    assert_declines(before, FoldConstants(max_bytes=4), "its value would take more than 4 bytes")


def test_a_size_that_is_not_known() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        n = Constant<value_ints = [2]>() c = ConstantOfShape(n) q = Add(p, c)
    }""")
    assert_declines(before, FOLD, "how large its value would be is not known")


SHARED = "d = Exp(a_constant) e = Add(x, d) y = Mul(e, a_constant)"


def test_before_ir_4_a_value_takes_a_node() -> None:
    head = "g (float[1] x, float[1] a_constant = {1}) => (float[1] y)"
    assert_declines(model(f"{head} {{ {SHARED} }}", opset=8, ir=3), FOLD, GROWS)


def test_since_ir_4_it_does_not() -> None:
    head = "g (float[1] x) => (float[1] y) <float[1] a_constant = {1}>"
    assert_rewrites(model(f"{head} {{ {SHARED} }}", opset=9, ir=4), FOLD, ["Add", "Mul"])


def test_inside_a_function_a_value_takes_a_node() -> None:
    before = model(f"""g (float[1] x) => (float[1] y) {{ y = local.F(x) }}
    <domain: "local", opset_import: ["" : 20]> F (x) => (y) {{
        a_constant = Constant<value = float[1] {{1}}>() {SHARED}
    }}""")
    assert_declines(before, FOLD, GROWS)


def test_a_graph_output_takes_a_node() -> None:
    before = model("""g (float[1] x) => (float[1] y, float[1] d)
    <float[1] a_constant = {1}> {
        d = Exp(a_constant) y = Mul(x, a_constant)
    }""")
    assert_declines(before, FOLD, GROWS)


def test_weights_that_are_graph_outputs_too() -> None:
    before = holding(
        model("""g (float[N, 40] x) => (float[N, 40] y, float[40, 40] w) {
            d = Transpose(w) y = MatMul(x, d)
        }"""),
        w=ramp(40, 40),
    )
    assert_declines(before, FOLD, GROWS)


# What must run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        "RandomNormal<shape = [2]>()",
        "RandomUniform<shape = [2]>()",
        "RandomNormalLike(c)",
        "RandomUniformLike(c)",
        "Bernoulli(c)",
        "Dropout(c, half, yes)",
    ],
)
def test_random_operators(operation: str) -> None:
    before = model(f"""g (float[2] x) => (float[2] y)
    <float[2] c = {{0.5, 0.5}}, float half = {{0.5}}, bool yes = {{1}}> {{
        r = {operation} d = Neg(r) y = Add(x, d)
    }}""")
    assert_declines(before, FOLD)


def test_what_random_operators_read() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Neg(c) r = RandomNormalLike(d) y = Add(x, r)
    }""")
    after, _ = Pipeline((FOLD,), check="off")(before)
    assert operators(after) == ["RandomNormalLike", "Add"]


def test_a_constant_that_the_caller_may_replace() -> None:
    before = model("""g (float[2] x, float[2] c = {1, 2}) => (float[2] y) {
        d = Neg(c) y = Add(x, d)
    }""")
    assert_declines(before, FOLD)


def test_quantized_weights() -> None:
    before = model("""g (float[4] x) => (float[4] y)
    <int8[4] w = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}> {
        d = DequantizeLinear(w, s, z) e = Neg(d) y = Add(x, e)
    }""")
    assert_declines(before, FOLD)


KINDS = (TensorProto.INT8, TensorProto.UINT16, TensorProto.INT4, TensorProto.FLOAT8E4M3FN)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_to_quantize(kind: int) -> None:
    before = model(
        f"""g (float[4] x) => (float[4] y) <float[4] w = {{1, 2, 3, 4}}, float s = {{0.5}}> {{
        q = QuantizeLinear<output_dtype = {kind}>(w, s) d = DequantizeLinear(q, s) y = Add(x, d)
    }}""",
        opset=21,
        ir=10,
    )
    assert_rewrites(before, FOLD, ["DequantizeLinear", "Add"])


def test_weights_that_stay_in_the_file_unquantized() -> None:
    before = model("""g (float[N, 2, 9, 9] x) => (float[] y, float[] v)
    <float s = {0.5}, int8 z = {0}> {
        q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z) y = Conv(x, d) v = Conv(x, w)
    }""")
    weights = np.ones((3, 2, 9, 9), np.float32)
    assert_declines(holding(before, w=weights), FOLD, "the file would grow")


def test_calls_of_functions() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = local.F(c) y = Add(x, d)
    }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { q = Neg(p) }""")
    assert_declines(before, FOLD)


def test_operators_of_other_domains() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = com.microsoft.Gelu(c) y = Add(x, d)
    }""")
    assert_declines(before, FOLD)


def test_attributes_of_a_call() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F<a = 0>(x) }
    <domain: "local", opset_import: ["" : 20]> F <a> (p) => (q) {
        c = Constant<value = float[2, 2] {1, 2, 3, 4}>()
        d = Softmax<axis: int = @a>(c) q = Add(p, d)
    }""")
    assert_declines(before, FOLD, "set by the caller of the function")


def test_text() -> None:
    before = model("""g (string[2] x) => (string[2] y) <string[2] c = {"a", "b"}> {
        d = StringConcat(c, c) y = StringConcat(x, d)
    }""")
    assert_declines(before, FOLD, "text is not folded")


def test_numbers_as_text() -> None:
    before = model("""g (string[2] x) => (string[2] y) <float[2] c = {1.5, 2.25}> {
        d = Cast<to = 8>(c) y = StringConcat(x, d)
    }""")
    assert_declines(before, FOLD, "text is not folded")


def test_text_inside_a_function() -> None:
    before = model("""g (string[2] x) => (string[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        c = Constant<value_floats = [1.5, 2.25]>() d = Cast<to = 8>(c) q = StringConcat(p, d)
    }""")
    after, _ = Pipeline((FOLD,), check="off")(before)
    assert after is before


def test_sequences_and_optionals_are_no_tensors() -> None:
    before = model("""g (float[2] x) => (seq(float) y) {
        s = SequenceEmpty() y = SequenceInsert(s, x)
    }""")
    assert_declines(before, FOLD, "onnxruntime cannot compute its value")


def test_optionals_on_the_way() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        o = Optional(c) e = OptionalGetElement(o) d = Neg(e) y = Add(x, d)
    }""")
    assert_rewrites(before, FOLD, ["Add"])


def test_what_onnxruntime_cannot_compute() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        d = Det(c) y = Add(x, d)
    }""")
    after, report = Pipeline((FOLD,), check="off")(before)
    assert after is before
    assert "onnxruntime cannot compute its value" in report.steps[0].declined


def test_nan_is_a_value_like_any_other() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {-1, 4}> {
        d = Sqrt(c) y = Add(x, d)
    }""")
    after = assert_rewrites(before, FOLD, ["Add"])
    (constant,) = after.constants()
    assert np.array_equal(constant.values, [np.nan, 2], equal_nan=True)
