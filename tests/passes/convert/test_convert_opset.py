"""Another version of ONNX's own operator set."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.convert.convert_opset import ConvertOpset

TEXT = "main (float[N, 4] x) => (float[?, ?] y) { u = Relu (x) y = ReduceSum <axes = [1]> (u) }"


def test_converts_and_counts_what_it_adapted_and_the_opset() -> None:
    assert_rewrites(model(TEXT, 12), ConvertOpset(13), ["Relu", "ReduceSum"], changes=2)


def test_without_a_target_nothing_changes() -> None:
    assert_declines(model(TEXT, 12), ConvertOpset())
