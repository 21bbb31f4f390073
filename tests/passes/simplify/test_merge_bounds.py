"""Clamps of clamps are one clamp, also of what is infinite or not a number."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_bounds import MergeBounds
from onnxslim.runtime import Session

MERGE = MergeBounds()
SPECIAL = np.array([np.nan, -np.inf, -9, -1, -0.5, 0, 0.5, 1, 2, 3, 6, 9, np.inf], np.float32)
CONSTANTS = "float c0 = {0}, float c1 = {1}, float c2 = {2}, float c6 = {6}, float m1 = {-1}"


def clamps(body: str) -> Model:
    return model(f"g (float[13] x) => (float[13] y) <{CONSTANTS}> {{ {body} y = Identity(b) }}")


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Relu(x) b = Relu(a)", "Relu"),
        ("a = Relu(x) b = Clip(a, c0, c6)", "Clip"),
        ("a = Clip(x, m1, c6) c = Relu(a) b = Add(c, c0)", "Clip Add"),
        ("a = Clip(x, c0, c1) b = Clip(a, c2, c6)", "Clip"),
        ("a = Clip(x, c2, c6) b = Clip(a, c0, c1)", "Clip"),
        ("a = Clip(x, c6, c1) b = Clip(a, c0, c6)", "Clip"),
        ("a = Clip(x, c6, c1) b = Clip(a, c0, c2)", "Clip"),
        ("a = Clip(x, c0, c6) b = Clip(a, m1, c6)", "Clip"),
        ("a = Clip(x, c0) b = Relu(a)", "Clip"),
        ("a = Clip(x, c0) b = Max(a, c1)", "Clip"),
        ("relu_of_x = Relu(x) c = Clip(relu_of_x) b = Add(c, c0)", "Clip Add"),
        ("a = Max(x, c0) b = Min(a, c6)", "Clip"),
        ("a = Max(c1, x) b = Max(a, c2)", "Max"),
        ("a = Min(c2, x) b = Min(a, c1)", "Min"),
        ("a = Min(c1, x) b = Min(a, c2)", "Min"),
        ("a = Max(x, m1) b = Max(a, c0)", "Relu"),
        ("a = Min(x, c6) b = Max(a, c0)", "Clip"),
    ],
)
def test_pairs(body: str, left: str) -> None:
    before = clamps(body)
    after = assert_rewrites(before, MERGE, [*left.split(), "Identity"])
    results = [
        Session(m.to_bytes(), optimize=False).run({"x": SPECIAL})["y"] for m in (before, after)
    ]
    np.testing.assert_array_equal(*results)


def test_bounds_that_would_take_more_bytes() -> None:
    before = model("g (float[N] x) => (float[] y) <float c = {6}> { a = Min(x, c) y = Relu(a) }")
    assert_declines(before, MERGE, "the file would grow")


def test_bounds_that_are_attributes() -> None:
    before = model("""g (float[N] x) => (float[N] y) {
        a = Relu(x) b = Clip<max = 6.0>(a) y = Identity(b) }""", 9)  # fmt: skip
    assert_rewrites(before, MERGE, ["Clip", "Identity"])


@pytest.mark.parametrize("kind", ["double", "float16", "int64", "int8"])
def test_other_types(kind: str) -> None:
    c, d = (15360, 17408) if kind == "float16" else (1, 4)  # text gives halves by their bits
    before = model(f"""g ({kind}[N] x) => ({kind}[N] y) <{kind} c = {{{c}}}, {kind} d = {{{d}}}> {{
        a = Max(x, c) b = Min(a, d) y = Identity(b) }}""")
    assert_rewrites(before, MERGE, ["Clip", "Identity"])


def test_a_type_that_cannot_be_clipped_yet() -> None:
    before = model("""g (double[N] x) => (double[N] y) <double c = {1}, double d = {5}> {
        a = Max(x, c) y = Min(a, d) }""", 11)  # fmt: skip
    assert_declines(before, MERGE)


@pytest.mark.parametrize("bound", ["float[2] c = {1, 2}", "float[1, 1, 1] c = {1}"])
def test_bounds_that_differ_or_widen(bound: str) -> None:
    before = model(f"""g (float[N, 2] x) => (float[] y) <{bound}> {{
        a = Max(x, c) y = Relu(a) }}""")
    assert_declines(before, MERGE)


def test_bounds_that_the_caller_gives() -> None:
    before = model("g (float[N] x, float c) => (float[] y) { a = Clip(x, c) y = Relu(a) }")
    assert_declines(before, MERGE)


def test_a_clamp_that_others_read() -> None:
    before = model("""g (float[N] x) => (float[] y, float[] z) <float c = {1}> {
        a = Relu(x) y = Clip(a, c) z = Neg(a) }""")
    assert_declines(before, MERGE, "no node would go")
