"""Optionals that surely hold something, or nothing."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.unpack_optionals import UnpackOptionals

UNPACK = UnpackOptionals()


@pytest.mark.parametrize("opset", [15, 18, 20])
def test_an_optional_made_of_a_tensor_is_that_tensor(opset: int) -> None:
    before = model(
        """g (float[N] x) => (float[N] y) {
        o = Optional(x) z = OptionalGetElement(o) y = Relu(z) }""",
        opset,
    )
    assert_rewrites(before, UNPACK, ["Relu"])


def test_a_tensor_is_no_optional() -> None:
    before = model("g (float[N] x) => (float[N] y) { z = OptionalGetElement(x) y = Relu(z) }")
    assert_rewrites(before, UNPACK, ["Relu"])


def test_an_optional_made_of_a_tensor_has_it() -> None:
    before = model("""g (float[N] x) => (bool y) {
        o = Optional(x) has_it = OptionalHasElement(o) y = Not(has_it) }""")
    assert_rewrites(before, UNPACK, ["Not"])


def test_an_empty_optional_has_nothing() -> None:
    before = model("""g (float[N] x) => (float[N] z, bool y) {
        o = Optional <type = float> () has_it = OptionalHasElement(o) y = Not(has_it)
        z = Relu(x) }""")
    assert_rewrites(before, UNPACK, ["Not", "Relu"])


def test_an_optional_input_may_hold_something_or_not() -> None:
    before = model("""g (optional(float[N]) x) => (bool y) {
        h = OptionalHasElement(x) y = Not(h) }""")
    assert_declines(before, UNPACK)
