"""Shapes that are known before the model runs."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.fold_shapes import FoldShapes

FOLD = FoldShapes()


def shape_of(operation: str, x: str = "float[2, 3, 5]", y: str = "int64[D]") -> Model:
    """Let y be the shape of x, with names as long as exporters make them."""
    return model(f"""g ({x} a_tensor_of_the_model) => ({y} y) {{
        the_shape_of_it = {operation}(a_tensor_of_the_model)
        y = Neg(the_shape_of_it)
    }}""")


def folded(before: Model) -> object:
    """Fold the only shape and return it as a list or a number."""
    after = assert_rewrites(before, FOLD, ["Neg"])
    (constant,) = after.constants()
    return constant.values.tolist()


@pytest.mark.parametrize("opset", [7, 13, 15, 19, 21])
def test_shape(opset: int) -> None:
    text = """g (float[2, 3, 5] a_tensor_of_the_model) => (float[D] y) {
        the_shape_of_it = Shape(a_tensor_of_the_model)
        f = Cast<to = 1>(the_shape_of_it) y = Neg(f)
    }"""
    after = assert_rewrites(model(text, opset), FOLD, ["Cast", "Neg"])
    assert [constant.values.tolist() for constant in after.constants()] == [[2, 3, 5]]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1, None, [3, 5]),
        (-2, None, [3, 5]),
        (0, 1, [2]),
        (0, -1, [2, 3]),
        (-2, -1, [3]),
        (-9, 9, [2, 3, 5]),
        (2, 1, []),
        (3, None, []),
        (0, -3, []),
        (0, -9, []),
    ],
)
def test_a_part_of_the_shape(start: int, end: int | None, expected: list[int]) -> None:
    bounds = f"start = {start}" + ("" if end is None else f", end = {end}")
    assert folded(shape_of(f"Shape<{bounds}>", y="int64[D]")) == expected


def test_shape_of_a_scalar() -> None:
    assert folded(shape_of("Shape", "float", "int64[0]")) == []


@pytest.mark.parametrize(("x", "expected"), [("float[2, 3]", 6), ("float", 1), ("float[0, 3]", 0)])
def test_size(x: str, expected: int) -> None:
    assert folded(shape_of("Size", x, "int64")) == expected


@pytest.mark.parametrize("operation", ["Shape", "Size", "Shape<start = 1>"])
def test_of_unknown_dimensions(operation: str) -> None:
    y = "int64" if operation == "Size" else "int64[D]"
    assert_declines(shape_of(operation, "float[2, N]", y), FOLD)


def test_a_declared_shape_is_no_proof() -> None:
    before = model("""g (float[M, N] x, int64[2] s) => (int64[2] y) <float[2, 3] a> {
        a = Reshape(x, s) b = Shape(a) y = Neg(b)
    }""")
    assert_declines(before, FOLD)


def test_of_the_shape_of_a_tensor() -> None:
    assert folded(shape_of("Shape", y="int64[D]")) == [2, 3, 5]
    before = model("""g (float[2, 3, 5] a_tensor_of_the_model) => (int64[D] y) {
        the_shape_of_it = Shape(a_tensor_of_the_model)
        the_shape_of_its_shape = Shape(the_shape_of_it) y = Neg(the_shape_of_its_shape)
    }""")
    assert_rewrites(before, FOLD, ["Neg"], changes=2)


def test_before_ir_4_a_constant_takes_a_node() -> None:
    text = """g (float[2, 3, 5] a_tensor_of_the_model) => (float[D] y) {
        the_shape_of_it = Shape(a_tensor_of_the_model)
        f = Cast<to = 1>(the_shape_of_it) y = Neg(f)
    }"""
    assert_declines(model(text, 8, 3), FOLD, "the file would grow by")


def test_since_ir_4_it_does_not() -> None:
    text = """g (float[2, 3, 5] a_tensor_of_the_model) => (float[D] y) {
        the_shape_of_it = Shape(a_tensor_of_the_model)
        f = Cast<to = 1>(the_shape_of_it) y = Neg(f)
    }"""
    assert_rewrites(model(text, 9, 4), FOLD, ["Cast", "Neg"])


def test_of_an_initializer() -> None:
    before = model("""g (int64[2] x) => (int64[2] y) <float[2, 1] the_weights = {1, 2}> {
        the_shape_of_it = Shape(the_weights) y = Add(x, the_shape_of_it)
    }""")
    assert_rewrites(before, FOLD, ["Add"])


def test_a_graph_output() -> None:
    before = model("g (float[2, 3] x) => (int64[2] y) { y = Shape(x) }")
    assert_declines(before, FOLD, "the shape is a graph output")


def test_never_grows_the_file() -> None:
    before = model("g (float[900, 900, 900, 900] x) => (int64[4] y) { s = Shape(x) y = Neg(s) }")
    assert_declines(before, FOLD, "the file would grow by")


def test_inside_a_branch() -> None:
    before = model("""g (bool c, float[2, 3] a_tensor_of_the_model) => (int64[2] y) {
        y = If (c) <
            then_branch = t () => (int64[2] u) {
                the_shape_of_it = Shape(a_tensor_of_the_model) u = Neg(the_shape_of_it)
            },
            else_branch = e () => (int64[2] v) {
                the_shape_of_it = Shape(a_tensor_of_the_model) v = Abs(the_shape_of_it)
            }
        >
    }""")
    assert_rewrites(before, FOLD, ["If", "Neg", "Abs"], changes=2)


def test_the_state_of_a_loop_may_change_its_shape() -> None:
    before = model("""g (float[1] x) => (float[N] y) <int64 n = {3}, bool t = {1}> {
        y = Loop (n, t, x) <body = b (int64 i, bool go, float[1] state) => (bool go2, float[M] w) {
            go2 = Identity(go) w0 = Concat<axis = 0>(state, state)
            the_shape_of_the_state = Shape(state)
            f = Cast<to = 1>(the_shape_of_the_state) w = Add(w0, f)
        }>
    }""")
    assert_declines(before, FOLD)


def test_inside_a_function_shapes_are_those_of_one_call() -> None:
    before = model("""g (float[2, 3] x) => (int64[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        the_shape_of_it = Shape(p) q = Neg(the_shape_of_it)
    }""")
    assert_declines(before, FOLD)
