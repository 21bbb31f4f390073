"""Where the largest element is does not depend on a Softmax."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_softmax_before_argmax import DropSoftmaxBeforeArgmax

DROP = DropSoftmaxBeforeArgmax()


def largest(inner: str, axis: int = 2, opset: int = 13, kind: str = "float") -> Model:
    return model(
        f"""g ({kind}[N, 4, 5] x) => (int64[] y) {{
        a = {inner}(x) y = ArgMax<axis = {axis}>(a) }}""",
        opset,
    )


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("inner", ["Softmax", "LogSoftmax<axis = 2>", "Softmax<axis = -1>"])
def test_the_place_of_the_largest(inner: str, kind: str) -> None:
    assert_rewrites(largest(inner, kind=kind), DROP, ["ArgMax"])


def test_along_another_axis() -> None:
    assert_rewrites(largest("Softmax<axis = 1>", 1), DROP, ["ArgMax"])


def test_when_it_flattened_its_input() -> None:
    assert_rewrites(largest("Softmax<axis = 2>", opset=11), DROP, ["ArgMax"])


@pytest.mark.parametrize(
    "before",
    [
        largest("Softmax<axis = 1>"),
        largest("Softmax", 1, opset=11),
        largest("Sigmoid"),
        largest("Softmax", kind="float16"),
    ],
)
def test_where_the_place_may_change(before: Model) -> None:
    assert_declines(before, DROP)


def test_a_softmax_that_is_read_elsewhere() -> None:
    before = model("""g (float[N, 5] x) => (int64[] y, float[] z) {
        z = Softmax(x) y = ArgMax<axis = 1>(z) }""")
    assert_declines(before, DROP, "no node would go")
