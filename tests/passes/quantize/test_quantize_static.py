"""Layers on 8-bit integers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from kit import holding, model, operators, optimized
from nets import net
from onnxslim import Calibration, Model, Pipeline, shapes
from onnxslim.base import Context, Pass
from onnxslim.errors import MissingData
from onnxslim.ir import Array
from onnxslim.passes.quantize._choice import _TRANSPOSED, _detour
from onnxslim.passes.quantize._study import key
from onnxslim.passes.quantize.quantize_static import QuantizeStatic
from onnxslim.pipeline import Report
from onnxslim.runtime import Session

QUANTIZE = QuantizeStatic()
FORMATS: tuple[Literal["qdq", "qoperator"], ...] = ("qdq", "qoperator")


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def feeds(*shape: int, dtype: Any = np.float32) -> Calibration:
    return Calibration.of([{"x": normal(*shape, seed=seed).astype(dtype)} for seed in range(4)])


def quantized(
    before: Model, *shape: int, step: Pass = QUANTIZE, budget: float = 0.05
) -> tuple[Model, Report]:
    frozen = before.to_bytes()
    after, report = Pipeline((step,), check="each", budget=budget)(before, feeds(*shape))
    assert not report.warnings
    assert before.to_bytes() == frozen
    return after, report


def fused(of: Model) -> list[str]:
    """Return the operators that onnxruntime runs, without changes of layout."""
    changes = ("Transpose", "QuantizeLinear", "DequantizeLinear")
    return [op for op in optimized(of, "ORT_ENABLE_ALL") if op not in changes]


W: dict[str, Any] = {"w": normal(64, 64) / 8}


def convs(body: str, **arrays: Any) -> Model:
    """Make a network of layers w, v, u with 16 channels."""
    layers = {name: normal(16, 16, 3, 3, seed=i) / 12 for i, name in enumerate("wvu")}
    bounds = {"nil": np.array(0.0), "one": np.array(1.0), "i": np.arange(16)[::-1]}
    return net(body, x="float[2, 16, 8, 8]", opset=18, **{**layers, **bounds, **arrays})


PADS = "<pads = [1, 1, 1, 1]>"
A = f"a = Conv{PADS}(x, w)"


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        (f"{A} y = Relu(a)", "QLinearConv"),
        (f"{A} b = Relu(a) y = Conv(b, v)", "QLinearConv QLinearConv"),
        (f"{A} b = Relu(a) c = Conv{PADS}(b, v) d = Add(c, b) e = Relu(d) y = Conv(e, u)",
         "QLinearConv QLinearConv QLinearAdd QLinearConv"),
        (f"{A} b = MaxPool<kernel_shape = [2, 2]>(a) y = Conv(b, v)",
         "QLinearConv NhwcMaxPool QLinearConv"),
        (f"{A} b = AveragePool<kernel_shape = [2, 2]>(a) y = Conv(b, v)",
         "QLinearConv QLinearAveragePool QLinearConv"),
        (f"{A} b = Sigmoid(a) c = Mul(a, b) y = Conv(c, v)",
         "QLinearConv QLinearSigmoid QLinearMul QLinearConv"),
        (f"{A} b = LeakyRelu(a) y = Conv(b, v)", "QLinearConv QLinearLeakyRelu QLinearConv"),
        (f"{A} b = Conv{PADS}(x, v) c = Add(a, b) y = Relu(c)",
         "QLinearConv QLinearConv QLinearAdd"),
        (f"{A} b = Clip(a, nil, one) y = Conv(b, v)", "QLinearConv QLinearConv"),
        (f"{A} b = Tanh(x) c = Add(a, b) y = Conv(c, v)",
         "QLinearConv Tanh QLinearAdd QLinearConv"),
        (f"{A} b = Tanh(a) y = Conv(b, v)", "QLinearConv Tanh QLinearConv"),
        (f"{A} b, c = Split<axis = 1, num_outputs = 2>(a) d = Concat<axis = 1>(c, b)"
         " y = Conv(d, v)",
         "QLinearConv Split QLinearConcat QLinearConv"),
        (f"{A} b = Gather<axis = 1>(a, i) y = Conv(b, v)", "QLinearConv Gather QLinearConv"),
        (f"{A} b = Relu(a) y = GlobalAveragePool(b)", "QLinearConv QLinearGlobalAveragePool"),
    ],
)  # fmt: skip
def test_onnxruntime_computes_on_integers(body: str, ops: str) -> None:
    after, _ = quantized(convs(body), 2, 16, 8, 8)
    assert " ".join(fused(after)) == ops


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("y = Gemm<transB = 1>(x, w, b)", "QGemm"),
        ("y = Gemm(x, w)", "QGemm"),
        ("h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, b)", "QGemm QGemm"),
        ("y = MatMul(x, w)", "MatMulIntegerToFloat"),
        ("h = MatMul(x, w) y = Add(b, h)", "QGemm"),
        ("h = MatMul(x, w) y = MatMul(h, v)", "QLinearMatMul MatMulIntegerToFloat"),
    ],
)
def test_products_of_matrices_too(body: str, ops: str) -> None:
    w, v = normal(64, 64) / 8, normal(64, 64, seed=1) / 8
    before = net(body, x="float[4, 64]", rank=2, w=w, v=v, b=normal(64))
    assert " ".join(fused(quantized(before, 4, 64)[0])) == ops


def test_the_file_takes_little_more_than_a_quarter() -> None:
    before = net("y = MatMul(x, w)", x="float[4, 256]", rank=2, w=normal(256, 256) / 16)
    after, report = quantized(before, 4, 256)
    assert after.size() < 0.27 * before.size()
    assert report.steps[0].changes == 1


@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_of_channels(per_channel: bool) -> None:
    before = convs(
        f"{A} y = Relu(a)", w=normal(16, 16, 3, 3) * np.logspace(0, -3, 16).reshape(-1, 1, 1, 1)
    )
    step = QuantizeStatic(per_channel=per_channel, tolerance=1.0)
    after, _ = quantized(before, 2, 16, 8, 8, step=step)
    assert scales(after) == [16 if per_channel else 1]


def scales(of: Model) -> list[int]:
    """Return how many scales each weight has."""
    found = [n.constant(1) for n in of.nodes() if n.constant(0) is not None]
    return [values.size for values in found if values is not None]


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        (f"{A} b = Relu(a) c = Conv(b, v) y = Relu(c)",
         "QuantizeLinear QLinearConv QLinearConv DequantizeLinear"),
        (f"{A} b = Clip(a, nil, one) c = MaxPool<kernel_shape = [2, 2]>(b) y = Conv(c, v)",
         "QuantizeLinear QLinearConv MaxPool QLinearConv DequantizeLinear"),
        (f"{A} b = Add(a, x) y = Conv(b, v)",
         "QuantizeLinear DequantizeLinear QLinearConv DequantizeLinear Add QuantizeLinear"
         " QLinearConv DequantizeLinear"),
        (f"{A} b, c = Split<axis = 1, num_outputs = 2>(a) d = Concat<axis = 1>(c, b)"
         " y = Conv(d, v)",
         "QuantizeLinear QLinearConv Split DequantizeLinear DequantizeLinear Concat QuantizeLinear"
         " QLinearConv DequantizeLinear"),
    ],
)  # fmt: skip
def test_operators_on_integers(body: str, ops: str) -> None:
    step = QuantizeStatic(format="qoperator")
    assert " ".join(operators(quantized(convs(body), 2, 16, 8, 8, step=step)[0])) == ops


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("y = Gemm<transB = 1>(x, w, b)", "QuantizeLinear MatMulInteger Add Cast Mul"),
        ("h = MatMul(x, w) y = Add(h, b)",
         "QuantizeLinear DequantizeLinear MatMulInteger Cast Mul Add"),
        ("h = MatMul(x, w) y = MatMul(h, v)",
         "QuantizeLinear QLinearMatMul MatMulInteger Cast Mul"),
    ],
)  # fmt: skip
def test_operators_that_multiply_integers(body: str, ops: str) -> None:
    w, v = normal(64, 64) / 8, normal(64, 64, seed=1) / 8
    before = net(body, x="float[4, 64]", rank=2, w=w, v=v, b=normal(64))
    after, _ = quantized(before, 4, 64, step=QuantizeStatic(format="qoperator"))
    assert " ".join(operators(after)) == ops


def outputs(of: Model, *shape: int) -> Array:
    feed = {"x": normal(*shape, seed=9)}
    (values,) = Session(of.to_bytes(), optimize=False).run(feed).values()
    return np.asarray(values)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_both_formats_compute_the_same(bias_correction: bool) -> None:
    before = convs(f"{A} b = Relu(a) c = Conv{PADS}(b, v) d = Add(c, b) e = Relu(d) y = Conv(e, u)")
    made = [
        quantized(
            before, 2, 16, 8, 8, step=QuantizeStatic(format=kind, bias_correction=bias_correction)
        )[0]
        for kind in FORMATS
    ]
    first, second = (outputs(of, 2, 16, 8, 8) for of in made)
    np.testing.assert_allclose(first, second, atol=0.02 * np.abs(first).max())


def error(before: Model, *shape: int, **options: Any) -> float:
    """Return how far the outputs move when all layers are quantized."""
    step = QuantizeStatic(tolerance=1.0, **options)
    after, _ = quantized(before, *shape, step=step, budget=1.0)
    return float(np.square(outputs(after, *shape) - outputs(before, *shape)).mean())


def test_equalization_evens_out_channels() -> None:
    steps = np.logspace(-2, 2, 16)
    before = convs(
        f"{A} b = Relu(a) y = Conv(b, v)",
        w=normal(16, 16, 3, 3) * steps.reshape(-1, 1, 1, 1),
        v=normal(16, 16, 3, 3, seed=1) / steps.reshape(1, -1, 1, 1),
    )
    plain = error(before, 2, 16, 8, 8, per_channel=False, equalize="never")
    assert error(before, 2, 16, 8, 8, per_channel=False) < plain / 10


def test_channels_stay_uneven_where_that_is_less_noisy() -> None:
    before = convs(
        f"{A} b = Relu(a) y = Conv(b, v)", w=normal(16, 16, 3, 3), v=normal(16, 16, 3, 3)
    )
    found = {way: error(before, 2, 16, 8, 8, equalize=way) for way in ("auto", "always", "never")}
    assert found["auto"] == min(found.values())


def test_smoothing_moves_outliers_into_weights() -> None:
    gamma = np.where(np.arange(64) % 16 == 0, 50.0, 1.0)
    before = net(
        "h = LayerNormalization(x, gamma, beta) y = MatMul(h, w)", x="float[4, 64]", rank=2,
        w=normal(64, 64) / 8, gamma=gamma, beta=normal(64),
    )  # fmt: skip
    assert error(before, 4, 64, smooth=0.5) < error(before, 4, 64) / 2


def test_second_order_rounding_moves_outputs_less() -> None:
    mixed = normal(32, 32) @ np.diag(np.logspace(0, -2, 32)) @ normal(32, 32, seed=1)
    before = net("h = MatMul(x, m) y = MatMul(h, w)", x="float[256, 32]", rank=2,
                 m=mixed / 8, w=normal(32, 128, seed=2))  # fmt: skip
    nearest = error(before, 256, 32, rounding="nearest")
    assert error(before, 256, 32, rounding="gptq") < nearest


def test_leaves_a_layer_that_costs_too_much() -> None:
    v = np.array(normal(64, 64, seed=1) / 8)
    v[0] = 0
    before = net(
        "h = MatMul(x, w) y = MatMul(h, v)", x="float[4, 64]", rank=2, v=v,
        w=normal(64, 64) / 8 * np.where(np.arange(64) == 0, 1000, 1),
    )  # fmt: skip
    after, _ = quantized(before, 4, 64)
    assert operators(after) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "MatMul",
    ]


def integers(of: Model) -> list[tuple[int, ...]]:
    """Return the shapes of the weights that became integers."""
    constants = [n.constant(0) for n in of.nodes() if n.op == "DequantizeLinear"]
    return [values.shape for values in constants if values is not None and values.ndim > 1]


def test_a_noisy_small_layer_stays_float() -> None:
    """Its inputs are those of an outlier and of little else; the large layer is harmless."""
    spread = np.where(np.arange(8) == 0, 1e3, 1.0)
    before = net("s = Mul(x, f) h = MatMul(s, w) r = Relu(h) y = MatMul(r, v)",
                 x="float[16, 8]", rank=2, f=spread, w=normal(8, 128) / spread[:, None],
                 v=normal(128, 128, seed=1) / 12)  # fmt: skip
    step = QuantizeStatic(tolerance=1.0, calibrator="minmax")
    assert integers(quantized(before, 16, 8, step=step, budget=1.0)[0]) == [(128, 128)]


def test_a_layer_of_usual_noise_is_quantized_although_it_makes_most_of_it() -> None:
    before = net("h = MatMul(x, w) r = Relu(h) y = MatMul(r, v)", x="float[16, 8]", rank=2,
                 w=normal(8, 128), v=normal(128, 128, seed=1) / 12)  # fmt: skip
    assert integers(quantized(before, 16, 8)[0]) == [(8, 128), (128, 128)]


def test_outputs_that_are_no_floats() -> None:
    before = net("h = MatMul(x, w) y = ArgMax<axis = 1, keepdims = 0>(h)", x="float[4, 64]",
                 y="int64[4] y", w=10 * np.eye(64))  # fmt: skip
    assert integers(quantized(before, 4, 64)[0]) == [(64, 64)]


def test_a_bias_with_more_dimensions() -> None:
    before = net("y = Gemm(x, w, b)", x="float[4, 64]", rank=2, b=normal(1, 64), **W)
    assert fused(quantized(before, 4, 64)[0]) == ["QGemm"]


def test_a_sum_that_has_more_dimensions_than_its_product() -> None:
    before = net(
        "h = MatMul(x, w) y = Add(h, b)", x="float[4, 64]", rank=3, b=normal(1, 1, 64), **W
    )
    after, _ = quantized(before, 4, 64)
    assert integers(after) == [(64, 64)]


def test_a_bias_that_is_computed() -> None:
    before = convs(
        "c = ReduceSum<keepdims = 0>(x, axes) y = Conv(x, w, c)", axes=np.array([0, 2, 3])
    )
    assert integers(quantized(before, 2, 16, 8, 8)[0]) == [(16, 16, 3, 3)]


@pytest.mark.parametrize("equalize", ["auto", "always"])
def test_rescaling_is_undone_where_nothing_is_quantized(equalize: Any) -> None:
    before = net("h = Gemm(x, w) y = Gemm(h, v)", x="float[4, 4]", rank=2,
                 w=normal(4, 4) * np.logspace(0, 3, 4), v=normal(4, 4, seed=1))  # fmt: skip
    after, context = before.copy(), Context(feeds(4, 4), infer=shapes.infer)
    context.measure_noise = context.compare = lambda model: 1.0
    assert QuantizeStatic(equalize=equalize).apply(after, context) == 0
    assert after.to_bytes() == before.to_bytes()


def test_one_scale_for_a_matrix_that_vectors_are_multiplied_by() -> None:
    uneven = normal(64, 64) * np.where(np.arange(64) == 0, 100, 1)
    even = net("y = MatMul(x, w)", x="float[4, 64]", rank=2, **W)
    sizes = [scales(quantized(even, 4, 64)[0])]
    before = net("y = MatMul(x, w)", x="float[4, 64]", rank=2, w=uneven)
    sizes.append(scales(quantized(before, 4, 64, step=QuantizeStatic(tolerance=1.0))[0]))
    assert sizes == [[1], [64]]


def declined(before: Model, data: Calibration, step: Pass = QUANTIZE) -> str:
    after, report = Pipeline((step,), check="each")(before, data)
    assert after is before
    (done,) = report.steps
    return done.skipped or " ".join(done.declined)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Gemm<alpha = 2.0>(x, w)", "scaled"),
        ("y = MatMul(x, x)", "not constant"),
        ("q = DynamicQuantizeLinear(x) y = MatMul(x, w)", "already"),
    ],
)
def test_declines(body: str, reason: str) -> None:
    body = body.replace("q = D", "q, s, z = D")
    before = net(body, x="float[64, 64]", rank=2, **W)
    assert reason in declined(before, feeds(64, 64))


def test_declines_half_precision() -> None:
    before = net("y = MatMul(x, w)", x="float16[4, 64]", rank=2, **W)
    assert "float32" in declined(before, feeds(4, 64, dtype=np.float16))


def test_declines_old_opsets() -> None:
    before = net("y = MatMul(x, w)", x="float[4, 64]", rank=2, opset=9, **W)
    assert declined(before, feeds(4, 64)) == "needs opset 10, the model has 9"


def test_declines_what_would_grow() -> None:
    before = net("y = MatMul(x, w)", x="float[4, 4]", rank=2, w=normal(4, 4))
    assert "smaller" in declined(before, feeds(4, 4))


def test_declines_layers_of_subgraphs() -> None:
    text = """
    g (float[4, 64] x) => (float[4, 64] y) {
        c = Constant<value = bool[1] {1}>()
        n = Not(c)
        y = If(n) <
            then_branch = t () => (a) { a = MatMul(x, w) },
            else_branch = e () => (b) { b = Relu(x) }
        >
    }
    """
    assert "subgraph" in declined(holding(model(text, 17, 8), **W), feeds(4, 64))


def test_needs_data() -> None:
    with pytest.raises(MissingData):
        Pipeline((QUANTIZE,))(net("y = MatMul(x, w)", x="float[4, 64]", rank=2, **W))


def test_old_opsets_have_one_scale_for_all_channels() -> None:
    before = net("y = Gemm(x, w, b)", x="float[4, 64]", rank=2, opset=11, b=normal(64), **W)
    after, _ = quantized(before, 4, 64)
    assert fused(after) == ["QGemm"]


def test_others_keep_reading_floats() -> None:
    before = net("h = Erf(x) m = MatMul(h, w) y = Add(h, m)", x="float[4, 64]", rank=2, **W)
    after, _ = quantized(before, 4, 64)
    add = next(node for node in after.nodes() if node.op == "Add")
    assert add.inputs[0].inputs[0].op == "Erf"


def test_a_batch_of_any_size() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 64]", rank=2, **W)
    data = Calibration.of([{"x": normal(size, 64)} for size in (1, 5)])
    after, report = Pipeline((QUANTIZE,), check="each")(before, data)
    assert report.steps[0].changes == 1
    assert "DequantizeLinear" in operators(after)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy", "mse"])
def test_calibrators(calibrator: Any) -> None:
    step = QuantizeStatic(calibrator=calibrator, tolerance=1.0)
    after, _ = quantized(convs(f"{A} y = Relu(a)"), 2, 16, 8, 8, step=step, budget=1.0)
    assert "QLinearConv" in fused(after)


def test_pairs_of_products_do_not_saturate() -> None:
    """Inputs of 255 and weights of 127 throughout are the worst there is."""
    before = net("y = MatMul(x, w)", x="float[4, 64]", rank=2, w=np.ones((64, 64)))
    data = Calibration.of([{"x": np.ones((4, 64), np.float32)}])
    after, _ = Pipeline((QUANTIZE,), check="each")(before, data)
    integers = [n.constant(0) for n in after.nodes() if n.constant(0) is not None]
    assert [int(np.abs(i.astype(int)).max()) for i in integers if i is not None] == [64]


def test_floats_before_a_residual_stream_cost_its_transposes() -> None:
    before = model("""g (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] z)
    <float[3, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        a = Conv(x, w) r = Relu(a) b = Conv(r, w) s = Add(r, b) c = Conv(s, w) z = Add(s, c)
    }""")
    first, *others = (node for node in before.nodes() if node.op == "Conv")
    study: Any = SimpleNamespace(layers={key(node): None for node in (first, *others)})
    facts = shapes.infer(before)
    assert _detour(first, study, facts) == 2 * _TRANSPOSED * 48
    assert _detour(others[0], study, facts) == 2 * _TRANSPOSED * 48
    assert _detour(others[1], study, facts) == _TRANSPOSED * 48
