"""Types as ONNX's operator schemas write them."""

from __future__ import annotations

import pytest
from onnx import helper

from kit import model
from onnxslim import shapes
from onnxslim.edits.types import Types, element, type_proto, type_text


@pytest.mark.parametrize(
    "text",
    ["tensor(float)", "tensor(bfloat16)", "seq(tensor(int64))", "optional(seq(tensor(bool)))"],
)
def test_a_type_reads_back(text: str) -> None:
    proto = type_proto(text)
    assert proto is not None
    assert type_text(proto) == text


@pytest.mark.parametrize("text", ["", "seq(map(int64,tensor(float)))"])
def test_other_types_are_unknown(text: str) -> None:
    assert type_proto(text) is None


def test_a_type_may_have_a_shape() -> None:
    made = type_proto("tensor(float)", ["N", 2])
    assert made == helper.make_tensor_type_proto(1, ["N", 2])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tensor(float)", "tensor(float)"),
        ("optional(seq(tensor(float)))", "tensor(float)"),
        ("seq(map(int64,tensor(float)))", "map(int64,tensor(float))"),
    ],
)
def test_elements(text: str, wanted: str) -> None:
    assert element(text) == wanted


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("SequenceConstruct(x, x)", "seq(tensor(float))"),
        ("SplitToSequence(x)", "seq(tensor(float))"),
        ("SequenceEmpty <dtype = 7> ()", "seq(tensor(int64))"),
        ("SequenceEmpty()", "seq(tensor(float))"),
        ("Optional(x)", "optional(tensor(float))"),
        ("OptionalGetElement(x)", "tensor(float)"),
        ("ConstantOfShape(n)", "tensor(float)"),
        ("ConstantOfShape <value = int32[1] {1}> (n)", "tensor(int32)"),
        ("CastLike(n, x)", "tensor(float)"),
        ("Cast <to = 11> (x)", "tensor(double)"),
        ("DequantizeLinear(q, x)", "tensor(float)"),
        ("RandomNormal <shape = [2]> ()", "tensor(float)"),
        ("RandomNormalLike(n)", "tensor(int64)"),
        ("EyeLike <dtype = 11> (n)", "tensor(double)"),
        ("HannWindow(n)", "tensor(float)"),
        ("Shape(x)", "tensor(int64)"),
        ("com.microsoft.FusedMatMul(x, x)", "tensor(float)"),
        ("ai.onnx.ml.ZipMap <classlabels_int64s = [1, 2]> (x)", ""),
    ],
)
def test_the_types_of_results(call: str, wanted: str) -> None:
    made = model(
        f"main (float[2] x, int64[1] n, int8[2] q) => (y) {{ a = {call} y = Identity(a) }}"
    )
    types = Types(made, shapes.infer(made))
    assert types[made.graph.nodes[0].outputs[0]] == wanted
