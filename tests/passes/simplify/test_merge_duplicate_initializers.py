"""Constants that are stored twice."""

import numpy as np
import numpy.typing as npt
import pytest
from ml_dtypes import bfloat16

from kit import assert_declines, assert_rewrites, holding, model, operators
from onnxslim.ir import Array, Model
from onnxslim.passes.simplify.merge_duplicate_initializers import MergeDuplicateInitializers

MERGE = MergeDuplicateInitializers()


def pair(a: Array, b: Array, kind: str = "float") -> Model:
    """Read both constants, as constants alone, and make numbers of them."""
    text = f"""g ({kind}[N] x) => (int64[P] y, int64[Q] z) {{
        c = Add(x, a) d = Add(x, b) y = Shape(c) z = Shape(d)
    }}"""
    return holding(model(text), a=a, b=b)


def array(values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
    return np.array(values, dtype)


def stored(of: Model) -> list[str]:
    return [constant.name for constant in of.constants()]


def merges(before: Model, kept: list[str], changes: int = 1) -> Model:
    after = assert_rewrites(before, MERGE, operators(before), changes)
    assert stored(after) == kept
    return after


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8, np.float64])
def test_equal_constants(dtype: type) -> None:
    kind = {"float32": "float", "float64": "double"}.get(np.dtype(dtype).name, np.dtype(dtype).name)
    before = pair(array([1, 2], dtype), array([1, 2], dtype), kind)
    merges(before, ["a"])


def test_the_first_of_many_stays() -> None:
    before = model("""g (float[2] x) => (float[2] y)
    <float[2] a = {1, 2}, float[2] b = {1, 2}, float[2] c = {1, 2}> {
        d = Add(x, a) e = Mul(d, b) y = Sub(e, c)
    }""")
    merges(before, ["a"], changes=2)


def test_read_twice_by_one_node() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> {
        y = Sum(x, a, b, b)
    }""")
    after = merges(before, ["a"])
    assert [t.name for node in after.nodes() for t in node.inputs] == ["x", "a", "a", "a"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (array([1, 2]), array([1, 3])),
        (array([1, 2]), array([[1, 2]])),
        (array([1, 2]), array([1, 2, 3])),
        (array([0.0]), array([-0.0])),
        (array([np.nan]), array([np.nan]).view(np.int32).__add__(1).view(np.float32)),
    ],
    ids=["value", "shape", "length", "minus zero", "another NaN"],
)
def test_constants_that_differ(a: Array, b: Array) -> None:
    assert_declines(pair(a, b), MERGE)


def test_constants_of_different_types() -> None:
    before = model("""g (int32[1] x) => (int32[1] y) <int32[1] a = {0}, float[1] b = {0}> {
        c = Cast<to = 6>(b) d = Add(x, a) y = Add(c, d)
    }""")
    assert_declines(before, MERGE)


def test_types_of_equal_bits() -> None:
    before = holding(
        model("""g (float[1] x) => (float[1] y) {
            c = Cast<to = 1>(a) d = Cast<to = 1>(b) e = Add(x, c) y = Add(e, d)
        }"""),
        a=array([1], np.float16),
        b=array([1], np.float16).view(bfloat16),
    )
    assert_declines(before, MERGE)


def test_equal_not_a_numbers() -> None:
    merges(pair(array([np.nan, 1]), array([np.nan, 1])), ["a"])


def test_constants_that_differ_late() -> None:
    a = np.arange(1000, dtype=np.float32)
    b = a.copy()
    b[-1] = 0
    assert_declines(pair(a, b), MERGE)


def test_large_constants() -> None:
    a = np.arange(1000, dtype=np.float32)
    merges(pair(a, a.copy()), ["a"])


def test_large_constants_that_differ_in_a_sign_of_zero() -> None:
    a = np.zeros(1000, np.float32)
    b = a.copy()
    b[-1] = -0.0
    assert_declines(pair(a, b), MERGE)


def test_empty_constants() -> None:
    merges(pair(array([]), array([])), ["a"])


def test_text() -> None:
    before = model("""g (string[2] x) => (string[2] y)
    <string[2] a = {"p", "q"}, string[2] b = {"p", "q"}, string[2] c = {"p", "r"}> {
        d = StringConcat(x, a) e = StringConcat(d, b) y = StringConcat(e, c)
    }""")
    merges(before, ["a", "c"])


def test_long_texts() -> None:
    words = ", ".join(f'"{i}"' for i in range(99))
    before = model(f"""g (string[100] x) => (string[100] y)
    <string[100] a = {{{words}, "a"}}, string[100] b = {{{words}, "a"}},
     string[100] c = {{{words}, "b"}}> {{
        d = StringConcat(x, a) e = StringConcat(d, b) y = StringConcat(e, c)
    }}""")
    merges(before, ["a", "c"])


def test_a_graph_output_stays() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] b)
    <float[2] a = {1, 2}, float[2] b = {1, 2}> { c = Add(x, a) y = Mul(c, b) }""")
    assert_declines(before, MERGE)


def test_others_may_use_a_graph_output() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] a)
    <float[2] a = {1, 2}, float[2] b = {1, 2}> { c = Add(x, a) y = Mul(c, b) }""")
    merges(before, ["a"])


def test_a_constant_that_the_caller_may_replace() -> None:
    before = model("""g (float[2] x, float[2] a = {1, 2}, float[2] b = {1, 2}) => (float[2] y) {
        c = Add(x, a) y = Mul(c, b)
    }""")
    assert_declines(before, MERGE)


def test_before_ir_4_the_input_goes_too() -> None:
    before = model(
        """g (float[2] x, float[2] a = {1, 2}, float[2] b = {1, 2}) => (float[2] y) {
            c = Add(x, a) y = Mul(c, b)
        }""",
        8,
        3,
    )
    after = merges(before, ["a"])
    assert [info.name for info in after.proto().graph.input] == ["x", "a"]


def test_a_branch_uses_what_is_outside() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
        b = Add(x, a)
        y = If (c) <
            then_branch = t () => (float[2] u) <float[2] k = {1, 2}> { u = Mul(b, k) },
            else_branch = e () => (float[2] v) <float[2] k = {1, 2}> { v = Sub(b, k) }
        >
    }""")
    merges(before, ["a"], changes=2)


def test_branches_do_not_see_each_other() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] u) <float[2] k = {1, 2}> { u = Mul(x, k) },
            else_branch = e () => (float[2] v) <float[2] k = {1, 2}> { v = Sub(x, k) }
        >
    }""")
    assert_declines(before, MERGE)


def test_a_constant_read_inside_and_outside_is_no_duplicate_of_itself() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
        b = Add(x, a)
        y = If (c) <
            then_branch = t () => (float[2] u) { u = Mul(b, a) },
            else_branch = e () => (float[2] v) { v = Sub(b, a) }
        >
    }""")
    assert_declines(before, MERGE)


def test_a_constant_that_nobody_reads_is_none_of_its_business() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> {
        y = Add(x, a)
    }""")
    assert_declines(before, MERGE)


def test_constant_nodes_are_left_to_others() -> None:
    constant = "Constant<value = float {1}>()"
    before = model(f"""g (float[2] x) => (float[2] y) {{
        a = {constant} b = {constant} c = Add(x, a) y = Mul(c, b)
    }}""")
    assert_declines(before, MERGE)
