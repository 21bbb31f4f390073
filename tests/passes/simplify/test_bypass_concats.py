"""What a Concat puts together and a Slice, Split or Gather takes apart."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.bypass_concats import BypassConcats

BYPASS = BypassConcats()


def joined(body: str, constants: str = "", opset: int = 13, axis: int = 1) -> Model:
    return model(
        f"""g (float[N, 2] x, float[N, 3] z) => (float[] y) <{constants or "int64 o = {0}"}> {{
        r = Relu(x) s = Exp(z) c = Concat<axis = {axis}>(r, s, r) {body} }}""",
        opset,
    )


def bounds(start: int, end: int, axis: int = 1) -> str:
    names = zip("abk", (start, end, axis), strict=True)
    return ", ".join(f"int64[1] {name} = {{{value}}}" for name, value in names)


@pytest.mark.parametrize(
    ("start", "end", "ops"),
    [
        (2, 5, ["Exp", "Neg"]),
        (-2, 99, ["Relu", "Neg"]),
        (3, 5, ["Exp", "Slice", "Neg"]),
        (2, 99, ["Relu", "Exp", "Concat", "Neg"]),
    ],
)
@pytest.mark.parametrize("axis", [1, -1])
def test_a_slice(start: int, end: int, ops: list[str], axis: int) -> None:
    before = joined("t = Slice(c, a, b, k) y = Neg(t)", bounds(start, end, axis), axis=axis)
    assert_rewrites(before, BYPASS, ops)


@pytest.mark.parametrize(("start", "end"), [(1, 3), (0, 6), (2, 2)])
def test_a_slice_across_operands(start: int, end: int) -> None:
    assert_declines(joined("t = Slice(c, a, b, k) y = Neg(t)", bounds(start, end)), BYPASS)


def test_a_slice_along_another_axis() -> None:
    assert_declines(joined("t = Slice(c, a, b, k) y = Neg(t)", bounds(0, 1, 0)), BYPASS)


def test_a_slice_before_opset_10() -> None:
    body = "t = Slice<axes = [1], starts = [2], ends = [5]>(c) y = Neg(t)"
    assert_rewrites(joined(body, opset=9), BYPASS, ["Exp", "Neg"])


@pytest.mark.parametrize(
    ("body", "constants", "opset"),
    [
        ("i, j, k = Split<axis = 1>(c, p) y = Sub(i, k)", "int64[3] p = {2, 3, 2}", 13),
        ("i, j, k = Split<axis = -1, split = [2, 3, 2]>(c) y = Sub(i, k)", "", 11),
    ],
)
def test_a_split(body: str, constants: str, opset: int) -> None:
    assert_rewrites(joined(body, constants, opset), BYPASS, ["Relu", "Sub"])


def test_a_split_into_other_parts() -> None:
    body, sizes = "i, j, k = Split<axis = 1>(c, p) y = Sub(i, k)", "int64[3] p = {3, 1, 3}"
    assert_declines(joined(body, sizes), BYPASS)


@pytest.mark.parametrize(
    ("index", "kept"), [("int64 i = {3}", "Exp"), ("int64[1] i = {-1}", "Relu")]
)
def test_a_gather(index: str, kept: str) -> None:
    before = joined("t = Gather<axis = 1>(c, i) y = Neg(t)", index)
    assert_rewrites(before, BYPASS, [kept, "Gather", "Neg"])


def test_a_gather_out_of_a_stack() -> None:
    before = model("""g (float[N] x) => (float[] y) <int64[1] o = {0}, int64 i = {1}> {
        a = Relu(x) b = Exp(x) u = Unsqueeze(a, o) v = Unsqueeze(b, o)
        c = Concat<axis = 0>(u, v) t = Gather(c, i) y = Neg(t) }""")
    assert_rewrites(before, BYPASS, ["Exp", "Neg"])


def test_operands_of_unknown_size() -> None:
    before = model("""g (float[N, 2] x) => (float[] y) <int64 i = {0}> {
        r = Relu(x) c = Concat<axis = 0>(r, x) y = Gather(c, i) }""")
    assert_declines(before, BYPASS)
