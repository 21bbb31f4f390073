"""Einsum, where a plainer operator does the same."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.lower_einsum import LowerEinsum

LOWER = LowerEinsum()


def one(equation: str, x: str = "float[2, 3, 4]", opset: int = 13) -> Model:
    text = f'g ({x} x) => (float[] y) {{ y = Einsum<equation = "{equation}">(x) }}'
    return model(text, opset)


def two(equation: str, a: str, b: str) -> Model:
    text = (
        f'g (float{a} a, float{b} b) => (float[] y) {{ y = Einsum<equation = "{equation}">(a, b) }}'
    )
    return model(text, 13)


def with_weights(equation: str, *shape: int, operands: str = "x, w") -> Model:
    text = (
        f'g (float[2, 3, 4] x) => (float[] y) {{ y = Einsum<equation = "{equation}">({operands}) }}'
    )
    return holding(model(text, 13), w=np.ones(shape, np.float32))


@pytest.mark.parametrize("equation", ["abc->acb", "a b c -> c b a"])
def test_a_transpose(equation: str) -> None:
    assert_rewrites(one(equation), LOWER, ["Transpose"])


def test_nothing() -> None:
    text = """g (float[2, 3] x) => (float[] y) {
        a = Abs(x) b = Einsum<equation = "ij->ij">(a) y = Neg(b)
    }"""
    assert_rewrites(model(text, 13), LOWER, ["Abs", "Neg"])


@pytest.mark.parametrize("equation", ["abc->ca", "abc->ab", "aab->ab", "...a->...a", "abc"])
def test_other_equations(equation: str) -> None:
    assert_declines(one(equation, "float[2, 2, 4]"), LOWER)


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("ij,jk->ik", "[2, 3]", "[3, 4]"),
        ("bij,bjk->bik", "[5, 2, 3]", "[5, 3, 4]"),
        ("bij,jk->bik", "[N, 2, 3]", "[3, 4]"),
        ("ij,bjk->bik", "[2, 3]", "[5, 3, 4]"),
        ("jk,ij->ik", "[3, 4]", "[2, 3]"),
    ],
)
def test_a_product(equation: str, a: str, b: str) -> None:
    assert_rewrites(two(equation, a, b), LOWER, ["MatMul"])


@pytest.mark.parametrize("shape", [(5, 4)])
def test_a_product_with_a_matrix_stored_the_other_way_round(shape: tuple[int, ...]) -> None:
    after = assert_rewrites(with_weights("abc,dc->abd", *shape), LOWER, ["MatMul"])
    assert next(after.nodes()).inputs[1].shape == (4, 5)


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("bij,bkj->bik", "[5, 2, 3]", "[5, 4, 3]"),
        ("bij,bjk->bki", "[5, 2, 3]", "[5, 3, 4]"),
        ("bij,bjk->ik", "[5, 2, 3]", "[5, 3, 4]"),
        ("ij,ij->ij", "[2, 3]", "[2, 3]"),
        ("ij,jk->ijk", "[2, 3]", "[3, 4]"),
        ("bcij,cbjk->bcik", "[2, 3, 2, 3]", "[3, 2, 3, 4]"),
        ("i,ij->j", "[3]", "[3, 4]"),
    ],
)
def test_what_takes_more_than_a_product(equation: str, a: str, b: str) -> None:
    assert_declines(two(equation, a, b), LOWER)


def test_a_label_of_two_extents() -> None:
    assert_declines(two("ij,jk->ik", "[2, 1]", "[3, 4]"), LOWER, "might be broadcast")


def test_shapes_that_are_not_known() -> None:
    assert_declines(two("ij,jk->ik", "[M, K]", "[L, N]"), LOWER, "might be broadcast")
