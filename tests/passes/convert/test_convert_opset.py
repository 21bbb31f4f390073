"""Another version of ONNX's own operator set."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.convert.convert_opset import ConvertOpset

TEXT = "main (float[N, 4] x) => (float[?, ?] y) { u = Relu (x) y = ReduceSum <axes = [1]> (u) }"


def test_converts_and_counts_what_it_adapted_and_the_opset() -> None:
    assert_rewrites(model(TEXT, 12), ConvertOpset(13), ["Relu", "ReduceSum"], changes=2)


def test_the_target_itself_changes_nothing() -> None:
    assert_declines(model(TEXT.replace("<axes = [1]>", ""), 21), ConvertOpset(21))


def test_what_has_no_counterpart_stays_whole() -> None:
    text = "main (float[N] x) => (float[N] y) { u = Gelu (x) y = Neg (u) }"
    assert_declines(model(text, 20), ConvertOpset(13), "Gelu -> 'u' does not go to opset 13")
