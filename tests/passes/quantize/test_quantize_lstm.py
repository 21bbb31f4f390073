"""LSTM by int8 weights, as onnxruntime's own operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, holding, model, operators
from nets import weights
from onnxslim import Model, Pipeline
from onnxslim.passes.quantize.quantize_dynamic import QuantizeDynamic
from onnxslim.passes.quantize.quantize_lstm import QuantizeLstm


def lstm(
    attributes: str = "", rest: str = "", directions: int = 1, hidden: int = 16,
    outputs: str = "y, h, c", scale: Any = 1.0,
) -> Model:  # fmt: skip
    text = f"""g (float[5, 2, 12] x) => (float[5, {directions}, 2, {hidden}] y)
    {{ {outputs} = LSTM <hidden_size = {hidden}{attributes}> (x, w, r{rest}) }}"""
    arrays = {
        "w": weights(directions, 4 * hidden, 12) * scale / 4,
        "r": weights(directions, 4 * hidden, hidden, seed=1) / 4,
        "b": weights(directions, 8 * hidden, seed=2),
        "p": weights(directions, 3 * hidden, seed=3),
        "h0": weights(directions, 2, hidden, seed=4),
    }
    narrow = {name: array.astype(np.float32) for name, array in arrays.items()}
    return holding(model(text, opset=17), n=np.array([5, 3], np.int32), **narrow)


def quantized(before: Model, **options: Any) -> tuple[Model, float]:
    after, report = Pipeline((QuantizeLstm(**options),), budget=1)(before)
    assert not report.warnings
    assert operators(after) == ["DynamicQuantizeLSTM"]
    assert report.validation.sqnr is not None
    return after, report.validation.sqnr


@pytest.mark.parametrize(
    ("attributes", "rest", "directions"),
    [
        ("", "", 1),
        ("", ", b", 1),
        (', direction = "reverse"', ", b", 1),
        (', direction = "bidirectional"', ", b", 2),
        (', direction = "bidirectional"', ", b, n, h0, h0, p", 2),
        (", clip = 0.5, input_forget = 1", ", , , h0", 1),
        (', activations = ["Sigmoid", "Relu", "Tanh"]', ", b", 1),
    ],
)
def test_computes_the_same_with_narrow_weights(attributes: str, rest: str, directions: int) -> None:
    assert quantized(lstm(attributes, rest, directions))[1] > 25


def test_takes_little_more_than_a_quarter_of_the_bytes() -> None:
    before = lstm(hidden=64)
    assert quantized(before)[0].size() < 0.35 * before.size()


def test_gates_have_scales_of_their_own() -> None:
    spread = np.logspace(0, -1.5, 64)[:, None]
    (_, fine), (_, coarse) = (quantized(lstm(scale=spread), per_channel=on) for on in (True, False))
    assert fine > coarse + 3


def test_eight_bits_where_sums_do_not_saturate() -> None:
    after, _ = quantized(lstm(), reduce_range=False)
    codes = [t.values for t in after.constants() if t.values.dtype == np.int8]
    assert max(int(abs(values.astype(int)).max()) for values in codes) > 64


def test_other_outputs_stay() -> None:
    before = lstm(outputs=", y").proto()
    before.graph.output[0].CopyFrom(model("g (float[1,2,16] y) => (y) {}").proto().graph.input[0])
    assert quantized(Model.from_proto(before))[0].graph.outputs[0].name == "y"


def test_batches_first() -> None:
    before = holding(
        model("g (float[5, 2, 12] x) => (float[?, ?, ?, ?] y) "
              "{ y = LSTM <hidden_size = 16, layout = 1> (x, w, r) }", opset=17),
        w=weights(1, 64, 12).astype(np.float32), r=weights(1, 64, 16).astype(np.float32),
    )  # fmt: skip
    assert_declines(before, QuantizeLstm(), "batches stand first")


def test_few_weights() -> None:
    text = "g (float[5, 2, 2] x) => (float[5, 1, 2, 1] y) { y = LSTM <hidden_size = 1> (x, w, r) }"
    before = holding(
        model(text, opset=17), w=np.ones((1, 4, 2), np.float32), r=np.ones((1, 4, 1), np.float32)
    )
    assert_declines(before, QuantizeLstm(), "the file would grow")


def test_quantize_dynamic_tells_of_it() -> None:
    assert_declines(lstm(), QuantizeDynamic(), "quantize-lstm takes onnxruntime's")
