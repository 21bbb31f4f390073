"""Sums and products with constants by turns become one product and one sum."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_affine import MergeAffine

MERGE = MergeAffine()
NUMBERS = {"two": 2, "three": 3, "tenth": 0.1, "zero": 0, "huge": 3e38}
TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16}


def chain(body: str, kind: str = "float", opset: int = 13) -> Model:
    before = model(f"g ({kind}[N, 4] x) => ({kind}[] y) {{ {body} }}", opset)
    dtype = TYPES[kind]
    arrays = {name: np.array(value, dtype) for name, value in NUMBERS.items() if name in body}
    return holding(before, **arrays, row=np.arange(1, 5, dtype=dtype))


@pytest.mark.parametrize("opset", [7, 13, 22])
@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize(
    "body",
    [
        "a = Div(x, three) b = Sub(a, two) y = Div(b, tenth)",
        "a = Mul(x, three) b = Sub(two, a) y = Mul(b, tenth)",
        "a = Sub(two, x) b = Mul(tenth, a) y = Add(three, b)",
        "a = Add(x, row) b = Mul(a, tenth) c = Sub(b, two) y = Div(c, three)",
    ],
)
def test_a_chain(body: str, kind: str, opset: int) -> None:
    assert_rewrites(chain(body, kind, opset), MERGE, ["Mul", "Add"])


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, two) y = Add(a, three)",
        "a = Mul(x, two) b = Add(a, x) y = Mul(b, three)",
        "a = Mul(x, two) b = Add(a, three) y = Div(two, b)",
    ],
)
def test_what_is_no_chain_of_three(body: str) -> None:
    assert_declines(chain(body), MERGE)


def test_an_inner_result_that_is_read_elsewhere() -> None:
    body = "a = Mul(x, two) b = Add(a, three) c = Mul(b, tenth) y = Max(b, c)"
    assert_declines(chain(body), MERGE)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, two) b = Div(a, zero) y = Add(b, two)",
        "a = Mul(x, huge) b = Add(a, two) y = Mul(b, three)",
    ],
)
def test_constants_that_do_not_fit(body: str) -> None:
    assert_declines(chain(body), MERGE, "the constants make one that float32 cannot hold")


def test_half_precision() -> None:
    before = chain("a = Mul(x, two) b = Add(a, three) y = Mul(b, tenth)", "float16")
    assert_declines(before, MERGE)


def test_constants_that_broadcast_to_more() -> None:
    before = holding(
        chain("a = Add(x, column) b = Mul(a, row) y = Add(b, column)"),
        column=np.ones((64, 1), np.float32),
    )
    assert_declines(before, MERGE, "the file would grow")
