"""Operators of any number of operands take over those of their like."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.merge_variadic import MergeVariadic

MERGE = MergeVariadic()


@pytest.mark.parametrize("operator", ["Max", "Min", "Sum"])
@pytest.mark.parametrize("opset", [8, 13])
def test_one_in_another(operator: str, opset: int) -> None:
    before = model(
        f"""g (float[N] x, float[N] z, float w) => (float[N] y) {{
        a = {operator}(x, z) y = {operator}(a, w) }}""",
        opset,
    )
    assert len(assert_rewrites(before, MERGE, [operator]).graph.nodes[0].inputs) == 3


def test_the_same_one_twice() -> None:
    before = model("g (float[N] x, float[N] z) => (float[N] y) { a = Sum(x, z) y = Sum(a, a) }")
    assert_declines(before, MERGE)


def test_another_operator() -> None:
    before = model("g (float[N] x, float[N] z) => (float[N] y) { a = Max(x, z) y = Min(a, z) }")
    assert_declines(before, MERGE)


def test_a_mean_of_means() -> None:
    before = model("g (float[N] x, float[N] z) => (float[N] y) { a = Mean(x, z) y = Mean(a, z) }")
    assert_declines(before, MERGE)


def test_one_that_others_read() -> None:
    before = model("""g (float[N] x, float[N] z) => (float[N] a, float[N] y) {
        a = Max(x, z) y = Max(a, z) }""")
    assert_declines(before, MERGE)


def test_before_operands_broadcast() -> None:
    before = model("g (float[N] x, float[N] z) => (float[N] y) { a = Max(x, z) y = Max(a, z) }", 7)
    assert_declines(before, MERGE)
