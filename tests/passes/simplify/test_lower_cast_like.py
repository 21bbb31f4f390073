"""CastLike becomes Cast, or a constant."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.lower_cast_like import LowerCastLike

LOWER = LowerCastLike()


def test_a_tensor_is_cast_to_a_known_type() -> None:
    before = model("""g (int64[N] x, float[2] another_tensor) => (float[N] y) {
        y = CastLike(x, another_tensor)
    }""")
    after = assert_rewrites(before, LOWER, ["Cast"])
    assert after.graph.nodes[0].attrs["to"] == 1


@pytest.mark.parametrize(("kind", "values"), [("float", "3, 4"), ("int32", "0, 7")])
def test_a_constant_is_cast_now(kind: str, values: str) -> None:
    before = model(f"""g ({kind}[2] x) => ({kind}[2] y) <int64[2] c = {{{values}}}> {{
        a = CastLike(c, x) y = Mul(a, x)
    }}""")
    after = assert_rewrites(before, LOWER, ["Mul"])
    (constant,) = (t for t in after.graph.nodes[0].inputs if t.name != "x")
    assert constant.dtype == {"float": np.float32, "int32": np.int32}[kind]


def test_what_does_not_fit_the_type_is_left_to_the_run() -> None:
    before = model("""g (int8[1] another_tensor) => (int8[1] y) <int64[1] c = {300}> {
        y = CastLike(c, another_tensor)
    }""")
    assert_rewrites(before, LOWER, ["Cast"])


def test_a_type_of_the_caller() -> None:
    before = model(
        """g (float[2] x) => (float[2] y) { y = local.like (x) }
        <domain: "local", opset_import: ["" : 20]>
        like (x) => (y) { c = Constant<value_ints = [1, 2]>() y = CastLike(c, x) }"""
    )
    assert_declines(before, LOWER)
