"""Transposes meet through what lies between them."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.cancel_transposes import CancelTransposes

CANCEL = CancelTransposes()
TO, FROM = "Transpose<perm = [0, 3, 1, 2]>", "Transpose<perm = [0, 2, 3, 1]>"


def around(
    body: str, constants: str = "float c = {1}", inputs: str = "", opset: int = 20, ir: int = 9
) -> Model:
    """Transpose x to a, and b, which the body computes, back to y."""
    return model(
        f"""g (float[N, 2, 3, 4] x {inputs}) => (float[] y) <{constants}> {{
        a = {TO}(x) {body} r = {FROM}(b) y = Identity(r) }}""",
        opset,
        ir,
    )


@pytest.mark.parametrize("operator", ["Relu(a)", "Cast<to = 1>(a)", "Clip(a, c)", "LeakyRelu(a)"])
def test_through_one_operator(operator: str) -> None:
    before = around(f"b = {operator}")
    assert_rewrites(before, CANCEL, [operator.split("(")[0].split("<")[0], "Identity"])


def test_through_a_chain() -> None:
    assert_rewrites(around("d = Relu(a) b = Mul(d, c)"), CANCEL, ["Relu", "Mul", "Identity"])


def test_with_a_constant_for_each_channel() -> None:
    before = around("b = Add(a, d)", "float[4, 1, 1] d = {1, 2, 3, 4}")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_a_constant_for_each_column() -> None:
    before = around("b = Add(a, d)", "float[3] d = {1, 2, 3}")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_another_transposed_tensor() -> None:
    before = around(f"d = {TO}(z) b = Add(a, d)", inputs=", float[N, 2, 3, 4] z")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_another_tensor() -> None:
    before = around("b = Add(a, z)", inputs=", float[N, 4, 2, 3] z")
    assert_rewrites(before, CANCEL, ["Transpose", "Add", "Identity"])


def test_with_two_other_tensors() -> None:
    before = around("d = Add(a, z) b = Add(d, z)", inputs=", float[N, 4, 2, 3] z")
    assert_declines(before, CANCEL)


def test_with_a_tensor_of_fewer_dimensions() -> None:
    assert_declines(around("b = Add(a, z)", inputs=", float[2, 3] z"), CANCEL)


@pytest.mark.parametrize(("operator", "axis"), [("Softmax", 3), ("LogSoftmax", 2), ("Softmax", 1)])
def test_through_a_softmax(operator: str, axis: int) -> None:
    source = [0, 3, 1, 2]
    after = assert_rewrites(
        around(f"b = {operator}<axis = {axis}>(a)"), CANCEL, [operator, "Identity"]
    )
    assert after.graph.nodes[0].attrs["axis"] == source[axis]


def test_through_a_softmax_that_flattens() -> None:
    assert_declines(around("b = Softmax<axis = 3>(a)", opset=11), CANCEL)


def test_through_a_concat() -> None:
    before = around(f"d = {TO}(z) b = Concat<axis = 1>(a, d, a)", inputs=", float[N, 2, 3, 5] z")
    after = assert_rewrites(before, CANCEL, ["Concat", "Identity"])
    assert after.graph.nodes[0].attrs["axis"] == 3


def test_through_an_operator_that_others_read() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y, float[] z) {{
        a = {TO}(x) b = Relu(a) y = {FROM}(b) z = Neg(b) }}""")
    assert_declines(before, CANCEL)


def test_a_transpose_that_does_not_undo_the_other() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y) {{
        a = {TO}(x) b = Relu(a) y = {TO}(b) }}""")
    assert_declines(before, CANCEL)


def test_through_layers() -> None:
    before = around("b = Conv(a, w)", "float[1, 4, 1, 1] w = {1, 2, 3, 4}")
    assert_declines(before, CANCEL)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_sum_over_moved_axes(opset: int) -> None:
    axes = "<keepdims = 0, axes = [2, 3]>(a)" if opset < 18 else "<keepdims = 0>(a, axes)"
    before = model(
        f"""g (float[N, 2, 3, 4] x) => (float[] y) <int64[2] axes = {{2, 3}}> {{
        a = {TO}(x) b = ReduceMean{axes} y = Neg(b) }}""",
        opset,
    )
    assert_rewrites(before, CANCEL, ["ReduceMean", "Neg"])


def test_a_sum_that_leaves_moved_axes() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y) <int64[1] axes = {{2}}> {{
        a = {TO}(x) b = ReduceMean<keepdims = 0>(a, axes) y = Neg(b) }}""")
    assert_declines(before, CANCEL)


@pytest.mark.parametrize("flags", ["", "<transA = 1>", "<transB = 1, alpha = 2.0>"])
def test_into_gemm(flags: str) -> None:
    before = model(f"""g (float[4, 4] x, float[4, 4] z) => (float[] y) {{
        a = Transpose<perm = [1, 0]>(x) b = Transpose(z) y = Gemm{flags}(a, b) }}""")
    assert_rewrites(before, CANCEL, ["Gemm"])


# Along axes ---------------------------------------------------------------------------------------

PADS = "int64[8] p = {0, 1, 0, 2, 0, 3, 0, 4}"


@pytest.mark.parametrize(
    ("operator", "constants"),
    [
        ("ReduceMax(a, i)", "int64[2] i = {1, -1}"),
        ("ReduceMean(a)", ""),
        ("Slice(a, i, j, k)", "int64[2] i = {1, 0}, int64[2] j = {2, -1}, int64[2] k = {-1, 1}"),
        ("Slice(a, i, j)", "int64[2] i = {0, 1}, int64[2] j = {9, 3}"),
        ("Slice(a, i, j, k, s)", "int64[1] i = {3}, int64[1] j = {0}, int64[1] k = {1},"
         " int64[1] s = {-2}"),
        ("Pad(a, p)", PADS),
        ("Pad<mode = \"edge\">(a, p)", PADS),
        ("Tile(a, i)", "int64[4] i = {1, 2, 3, 1}"),
        ("CumSum(a, i)", "int64 i = {-1}"),
        ("Resize(a, , s)", "float[4] s = {1, 1, 2, 3}"),
        ("PRelu(a, s)", "float[4, 1, 1] s = {1, 2, 3, 4}"),
    ],
)  # fmt: skip
def test_along_axes(operator: str, constants: str) -> None:
    before = around(f"b = {operator}", constants or "int64 i = {0}")
    assert_rewrites(before, CANCEL, [operator.split("(")[0].split("<")[0], "Identity"])


@pytest.mark.parametrize("opset", [8, 9])
@pytest.mark.parametrize(
    "operator",
    [
        "Slice<axes = [1, 3], starts = [1, 0], ends = [3, 2]>(a)",
        "ReduceSum<axes = [1, 2]>(a)",
        'Pad<pads = [0, 1, 0, 2, 0, 3, 1, 1], mode = "reflect">(a)',
    ],
)
def test_along_axes_in_attributes(operator: str, opset: int) -> None:
    before = around(f"b = {operator}", opset=opset)
    assert_rewrites(before, CANCEL, [operator.split("<")[0], "Identity"])


def test_through_an_expand() -> None:
    before = around("c = Slice(a, i, j, j) b = Expand(c, s)",
                    "int64[1] i = {0}, int64[1] j = {1}, int64[4] s = {1, 5, 2, 3}")  # fmt: skip
    assert_rewrites(before, CANCEL, ["Slice", "Expand", "Identity"])


def test_through_an_expand_to_a_higher_rank() -> None:
    before = model(f"""g (float[3, 4] x) => (float[] y) <int64[4] s = {{2, 1, 4, 3}}> {{
        a = Transpose<perm = [1, 0]>(x) b = Expand(a, s) y = {TO}(b) }}""")
    assert_declines(before, CANCEL)


@pytest.mark.parametrize(
    ("operator", "constants"),
    [
        ("ReduceMax<keepdims = 1>(a, e)", "int64[0] e = {}"),
        ('Resize<mode = "linear">(a, , s)', "float[4] s = {1, 1, 2, 3}"),
        ("Resize(a, , , z)", "int64[4] z = {1, 4, 4, 9}"),
    ],
)
def test_what_may_depend_on_the_order(operator: str, constants: str) -> None:
    assert_declines(around(f"b = {operator}", constants), CANCEL)


def test_through_an_interpolation() -> None:
    before = model(f"""g (float[N, 4, 2, 3] x) => (float[] y) <float[4] s = {{1, 2, 3, 1}}> {{
        a = {FROM}(x) b = Resize<mode = "linear">(a, , s) y = {TO}(b) }}""")
    assert_rewrites(before, CANCEL, ["Resize"])


def test_through_the_place_of_the_largest() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (int64[] y) {{
        a = {TO}(x) b = ArgMax<axis = 1>(a) y = {FROM}(b) }}""")
    assert_rewrites(before, CANCEL, ["ArgMax"])


@pytest.mark.parametrize("axis", [0, 1])
def test_through_quantization(axis: int) -> None:
    scale = ("float s = {0.5}", "float[4] s = {1, 2, 3, 4}")[axis]
    body = "q = QuantizeLinear<axis = 1>(a, s) b = DequantizeLinear<axis = 1>(q, s)"
    before = around(body, scale)
    assert_rewrites(before, CANCEL, ["QuantizeLinear", "DequantizeLinear", "Identity"])


@pytest.mark.parametrize(
    ("node", "ops"),
    [
        ("ArgMax<axis = 1, keepdims = 0>(a)", ["ArgMax"]),
        ("ArgMin<axis = -3, keepdims = 0, select_last_index = 1>(a)", ["ArgMin"]),
    ],
)
def test_into_the_place_of_the_largest(node: str, ops: list[str]) -> None:
    before = model(f"g (float[N, 2, 3, 4] x) => (int64[] y) {{ a = {TO}(x) y = {node} }}")
    assert_rewrites(before, CANCEL, ops)


def parts(back: str, opset: int = 20) -> Model:
    return model(
        f"""g (float[N, 2, 3, 4] x) => (float[] y, float[] z) <int64[2] s = {{1, 3}}> {{
        a = {TO}(x) b, c = Split<axis = 1>(a, s) y = {FROM}(b) z = {back}(c) }}""",
        opset,
    )


def test_through_a_split() -> None:
    after = assert_rewrites(parts(FROM), CANCEL, ["Split"])
    assert after.graph.nodes[0].attrs["axis"] == 3


def test_through_a_split_into_other_transposes() -> None:
    assert_declines(parts(TO), CANCEL)


def product(kind: str, rank: str = "", opset: int = 13) -> Model:
    return model(
        f"""g ({kind}[{rank}5, 4] x, {kind}[{rank}6, 4] w) => ({kind}[] y) {{
        a = Transpose<perm = {[0, 2, 1] if rank else [1, 0]}>(w) y = MatMul(x, a) }}""",
        opset,
    )


def test_into_a_product() -> None:
    assert_rewrites(product("float"), CANCEL, ["Gemm"])


@pytest.mark.parametrize(
    "before", [product("int32"), product("float", "2, "), product("float", opset=10)]
)
def test_into_a_product_that_gemm_does_not_know(before: Model) -> None:
    assert_declines(before, CANCEL)
