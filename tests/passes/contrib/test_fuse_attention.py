"""Scores, softmax and weighted values become one MultiHeadAttention."""

from __future__ import annotations

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim import Model
from onnxslim.passes.contrib.fuse_attention import FuseAttention

FUSE = FuseAttention()
ROWS = "float[N, S, 8] q, float[N, L, 8] k, float[N, L, 8] v"
SHAPES = "int64[4] h = {0, 0, 2, 4}, int64[3] r = {0, 0, 8}, float s = {0.5}, float low = {-3e38}"
QUERY = "q4 = Reshape (q, h) q1 = Transpose <perm = [0, 2, 1, 3]> (q4)"
KEY = "k4 = Reshape (k, h) k1 = Transpose <perm = [0, 2, 3, 1]> (k4)"
VALUE = "v4 = Reshape (v, h) v1 = Transpose <perm = [0, 2, 1, 3]> (v4)"
SCORES = "a = MatMul (q1, k1)"
REST = """w = Softmax <axis = -1> (a) o = MatMul (w, v1)
          t = Transpose <perm = [0, 2, 1, 3]> (o) y = Reshape (t, r)"""


def attention(
    *parts: str, inputs: str = ROWS, held: str = "", opset: int = 17, kind: str = "float"
) -> Model:
    text = f"main ({inputs}) => (float[N, S, 8] y) <{SHAPES}{held}> {{ {' '.join(parts)} }}"
    return model(text.replace("float", kind), opset)


def test_rows_become_attention() -> None:
    before = attention(QUERY, KEY, VALUE, SCORES, REST)
    assert_rewrites(before, FUSE, ["MultiHeadAttention"])


def test_its_domain_is_imported() -> None:
    after = assert_rewrites(
        attention(QUERY, KEY, VALUE, SCORES, REST), FUSE, ["MultiHeadAttention"]
    )
    assert after.proto().opset_import[-1].domain == "com.microsoft"


@pytest.mark.parametrize(
    "scaled",
    [
        (QUERY, KEY, "b = MatMul (q1, k1) a = Mul (b, s)"),
        (QUERY, KEY, "b = MatMul (q1, k1) a = Div (b, s)"),
        (QUERY.replace("q1", "q2"), "q1 = Mul (s, q2)", KEY, SCORES),
        (QUERY, KEY.replace("k1", "k2"), "k1 = Mul (k2, s)", SCORES),
    ],
)
def test_factors_become_the_scale(scaled: tuple[str, ...]) -> None:
    before = attention(*scaled, VALUE, REST)
    after = assert_rewrites(before, FUSE, ["MultiHeadAttention"])
    assert after.graph.nodes[0].attr("scale") == (2 if "Div" in scaled[-1] else 0.5)


def test_keys_with_their_heads_apart_stay_so() -> None:
    inputs = "float[N, S, 8] q, float[N, 2, L, 4] k, float[N, 2, L, 4] v1"
    before = attention(
        QUERY, "k1 = Transpose <perm = [0, 1, 3, 2]> (k)", SCORES, REST, inputs=inputs
    )
    assert_rewrites(before, FUSE, ["MultiHeadAttention"])


def test_a_query_with_its_heads_apart_is_turned() -> None:
    inputs = "float[N, 2, S, 4] q1, float[N, L, 8] k, float[N, L, 8] v"
    before = attention(KEY, VALUE, SCORES, REST, inputs=inputs)
    assert_rewrites(before, FUSE, ["Transpose", "Reshape", "MultiHeadAttention"])


def test_a_mask_with_a_row_for_every_query_is_added() -> None:
    before = attention(
        QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Add (b, m)", REST,
        inputs=f"{ROWS}, float[N, 1, S, L] m",
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["MultiHeadAttention"])


def test_a_mask_of_one_row_is_repeated() -> None:
    before = attention(
        QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Add (b, m)", REST,
        inputs=f"{ROWS}, float[N, 1, 1, L] m",
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Shape", "Concat", "Expand", "MultiHeadAttention"])


def test_replaced_scores_become_a_mask() -> None:
    before = attention(
        QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Where (m, b, low)", REST,
        inputs=f"{ROWS}, bool[1, 1, S, L] m",
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Where", "MultiHeadAttention"])


def test_scores_replaced_by_a_number_that_matters_stay() -> None:
    before = attention(
        QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Where (m, b, s)", REST,
        inputs=f"{ROWS}, bool[1, 1, S, L] m",
    )  # fmt: skip
    assert_declines(before, FUSE, "lowest number")


def test_rows_of_queries_keys_and_values_side_by_side_are_cut() -> None:
    text = f"""main (float[N, S, 24] x) => (float[N, S, 8] y)
      <{SHAPES}, int64[5] p = {{0, 0, 3, 2, 4}}, int64 zero = {{0}}, int64 one = {{1}},
       int64 two = {{2}}>
      {{ x5 = Reshape (x, p) z = Transpose <perm = [2, 0, 3, 1, 4]> (x5)
        q1 = Gather (z, zero) k2 = Gather (z, one) v1 = Gather (z, two)
        k1 = Transpose <perm = [0, 1, 3, 2]> (k2) {SCORES} {REST} }}"""
    assert_rewrites(model(text, 17), FUSE, ["Split", "MultiHeadAttention"])


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (attention(QUERY, KEY, VALUE, SCORES, REST, kind="double"), "float32"),
        (attention(QUERY, KEY, VALUE, SCORES, REST.replace("-1", "2")), "another axis"),
        (attention(QUERY, KEY, VALUE, SCORES, REST,
                   inputs="float[N, S, 8] q, float[1, L, 8] k, float[N, L, 8] v"), "broadcast"),
        (attention(QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Add (b, m)", REST,
                   inputs=f"{ROWS}, float[S, L] m"), "4 axes"),
        (attention(QUERY, KEY, VALUE, "b = MatMul (q1, k1) a = Mul (b, m)", REST,
                   inputs=ROWS, held=", float[2, 1, 1] m = {1, 2}"), "single factor"),
    ],
)  # fmt: skip
def test_is_left_alone(before: Model, reason: str) -> None:
    assert_declines(before, FUSE, reason)


def test_a_function_of_that_domain_may_bear_its_name() -> None:
    proto = attention(QUERY, KEY, VALUE, SCORES, REST).proto()
    body = proto.functions.add(domain="com.microsoft", name="MultiHeadAttention")
    body.opset_import.add(version=17)
    assert_declines(Model.from_proto(proto), FUSE)
