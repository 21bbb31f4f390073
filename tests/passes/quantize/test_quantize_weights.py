"""Weights in few bits, which onnxruntime unpacks when it loads the model."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, holding, model, operators, optimized
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import SpecError
from onnxslim.ir import producer
from onnxslim.passes.quantize.quantize_weights import QuantizeWeights
from onnxslim.pipeline import Report
from onnxslim.runtime import Session

SCALED = ["Cast", "Mul"]
"""A Cast of scales that are stored in half the bits, and what they multiply."""
TABLE = ["Cast", "Cast", "Gather", "Reshape", *SCALED]
WORDS = ["Div", "Mod", "Cast", "Add", "Reshape", *SCALED]


def product(opset: int = 17, ir: int = 8, x: str = "float[N, 256]", **arrays: Any) -> Model:
    """A product of 256 inputs and 64 outputs, of a type of its own for each format version."""
    kind = np.float16 if x.startswith("float16") else np.float32
    given: dict[str, Any] = {"w": weights(256, 64), **arrays}
    text = f"g ({x} x) => ({x.partition('[')[0]}[N, 64] y) {{ y = MatMul(x, w) }}"
    return holding(model(text, opset, ir), **{k: v.astype(kind) for k, v in given.items()})


def quantized(
    before: Model, data: Calibration | None = None, **options: Any
) -> tuple[Model, Report]:
    after, report = Pipeline((QuantizeWeights(**options),), budget=1e9)(before, data)
    assert not report.warnings
    assert report.changed, report.steps[0].places
    return after, report


def error(report: Report) -> float:
    assert report.validation.relative is not None
    return report.validation.relative


@pytest.mark.parametrize(
    ("options", "opset", "ir", "ops", "bytes_", "relative"),
    [
        ({}, 7, 8, ["Cast", *SCALED], 1 / 4, 0.005),
        ({"bits": 4}, 13, 8, TABLE, 1 / 8, 0.12),
        ({"bits": 4}, 21, 10, ["Cast", *SCALED], 1 / 8, 0.12),
        ({"bits": 4}, 21, 9, TABLE, 1 / 8, 0.12),
        ({"bits": 2}, 13, 8, TABLE, 1 / 16, 2.0),
        ({"bits": 2}, 25, 13, ["Cast", *SCALED], 1 / 16, 2.0),
        ({"bits": 3}, 13, 8, [*WORDS[:4], "Reshape", "Slice", *WORDS[4:]], 3 / 32, 0.4),
        ({"bits": 5}, 13, 8, [*WORDS[:4], "Reshape", "Slice", *WORDS[4:]], 5 / 32, 0.08),
        ({"bits": 6}, 7, 8, ["Div", "Div", "Mul", "Sub", *WORDS[2:4], "Reshape", "Slice",
                             *WORDS[4:]], 6 / 32, 0.03),
        ({"symmetric": False}, 13, 8, ["Cast", *SCALED, "Add"], 1 / 4, 0.01),
        ({"block": 32}, 13, 8, ["Cast", *SCALED, "Reshape"], 1 / 4, 0.005),
        ({"bits": 4, "block": 32}, 21, 10, ["Cast", *SCALED, "Reshape"], 1 / 8, 0.12),
        ({"per_channel": False}, 13, 8, ["Cast", "Mul"], 1 / 4, 0.01),
        ({"dtype": "fp16"}, 7, 8, ["Cast"], 1 / 2, 0.001),
        ({"dtype": "bf16"}, 13, 8, ["Cast"], 1 / 2, 0.01),
        ({"rounding": "stochastic"}, 13, 8, ["Cast", *SCALED], 1 / 4, 0.02),
    ],
)  # fmt: skip
def test_stores_weights(
    options: dict[str, Any], opset: int, ir: int, ops: list[str], bytes_: float, relative: float
) -> None:
    before = product(opset, ir, w=weights(2048, 64), x="float[N, 2048]")
    after, report = quantized(before, **options)
    scales = 2 * 64 * (2048 // options["block"] if "block" in options else 1)
    assert operators(after) == [*ops, "MatMul"]
    assert error(report) < relative
    assert after.size() < bytes_ * before.size() + scales + 1700


def test_half_precision_stays_half_precision() -> None:
    after, report = quantized(product(x="float16[N, 256]"))
    assert error(report) < 0.02
    assert operators(after) == ["Cast", "Mul", "MatMul"]


LAYERS = {
    "Conv": ("y = Conv(x, w)", (64, 3, 3, 3), "float[2, 3, 6, 6]", 4),
    "grouped Conv": ("y = Conv <group = 3> (x, w)", (96, 1, 5, 5), "float[2, 3, 6, 6]", 4),
    "ConvTranspose": ("y = ConvTranspose(x, w)", (3, 64, 3, 3), "float[2, 3, 6, 6]", 4),
    "depthwise ConvTranspose": (
        "y = ConvTranspose <group = 64> (x, w)", (64, 1, 5, 5), "float[1, 64, 3, 3]", 4,
    ),
    "Gemm": ("y = Gemm <transB = 1> (x, w)", (64, 32), "float[3, 32]", 2),
    "MatMul": ("y = MatMul(w, x)", (64, 32), "float[32, 3]", 2),
    "stack": ("y = MatMul(x, w)", (8, 32, 16), "float[8, 3, 32]", 3),
    "Gather": ("i = Cast <to = 7> (x) y = Gather(w, i)", (200, 40), "float[5]", 2),
    "LSTM": ("y, h, c = LSTM <hidden_size = 16> (x, w, r)", (1, 64, 40), "float[4, 2, 40]", 4),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_knows_the_layer(layer: str) -> None:
    body, shape, x, rank = LAYERS[layer]
    recurrent: dict[str, Any] = {"r": weights(1, 64, 16)} if layer == "LSTM" else {}
    before = net(body, x=x, rank=rank, w=weights(*shape), **recurrent)
    after, report = quantized(before)
    assert report.steps[0].changes == 1 + (layer == "LSTM")
    assert error(report) < 0.03
    assert after.size() < 0.5 * before.size()


def scales(of: Model) -> tuple[int, ...]:
    (scale,) = (node.inputs[1] for node in of.nodes() if node.op == "Mul")
    source = producer(scale)
    return tuple((scale if source is None else source.inputs[0]).shape)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("Conv", (64, 1, 1, 1)),
        ("ConvTranspose", (64, 1, 1)),
        ("depthwise ConvTranspose", (64, 1, 1, 1)),
        ("Gemm", (64, 1)),
        ("MatMul", (64, 1)),
        ("stack", (8, 1, 16)),
        ("Gather", (200, 1)),
    ],
)
def test_scales_by_channel(layer: str, shape: tuple[int, ...]) -> None:
    body, dims, x, rank = LAYERS[layer]
    after, _ = quantized(net(body, x=x, rank=rank, w=weights(*dims)))
    assert scales(after) == shape


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_folding_does_not_undo_it(bits: int) -> None:
    passes = parse(f"quantize-weights{{bits={bits}}},lossless,fold-constants")
    once, _ = Pipeline(passes, budget=1e9)(product(21, 10))
    twice, report = Pipeline(parse("lossless"))(once)
    assert not report.changed
    assert twice.size() < product(21, 10).size() / 3


@pytest.mark.parametrize("options", [{}, {"bits": 4}, {"bits": 4, "block": 32}, {"dtype": "bf16"}])
def test_onnxruntime_unpacks_at_load(options: dict[str, Any]) -> None:
    after, _ = quantized(product(), **options)
    assert optimized(after, "ORT_ENABLE_BASIC") == ["MatMul"]


def test_onnxruntime_unpacks_what_a_loop_reads() -> None:
    text = """
        g (float[2, 64] x, int64 n) => (float[2, 64] y) {
          yes = Constant <value = bool {1}> ()
          y = Loop (n, yes, x) <body = b (int64 i, bool c, float[2, 64] t)
            => (bool d, float[2, 64] u) { d = Identity(c) u = MatMul(t, w) }>
        }"""
    before = holding(model(text), w=weights(64, 64).astype(np.float32))
    after, _ = quantized(before, bits=4)
    assert "Gather" not in optimized(after, "ORT_ENABLE_BASIC")


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("bits", [2, 4])
def test_weights_need_not_fill_bytes(bits: int, opset: int) -> None:
    before = net("y = MatMul(x, w)", x="float[2, 81]", rank=2, w=weights(81, 75), opset=opset)
    after, _ = quantized(before, bits=bits)
    assert "Slice" in operators(after)
    assert after.size() < (bits / 32 + 0.1) * before.size()


@pytest.mark.parametrize("bits", [3, 5])
def test_many_weights_share_what_takes_words_apart(bits: int) -> None:
    given: dict[str, Any] = {f"w{n}": weights(64, 64, seed=n) for n in range(4)}
    body = " ".join(f"t{n} = MatMul({f't{n - 1}' if n else 'x'}, w{n})" for n in range(4))
    after, _ = quantized(net(f"{body} y = Relu(t3)", x="float[2, 64]", rank=2, **given), bits=bits)
    powers = {node.inputs[1] for node in after.nodes() if node.op == "Div"}
    assert len(powers) == 1


def test_scales_out_of_the_range_of_halves() -> None:
    tiny = weights(64, 64) * 1e-9
    before = net(
        "t = MatMul(x, w) y = Mul(t, s)", x="float[2, 64]", rank=2, w=tiny, s=np.array(1e9)
    )
    _, report = quantized(before)
    assert error(report) < 0.01


def test_shares_one_table() -> None:
    given: dict[str, Any] = {"w": weights(64, 64), "v": weights(64, 64, seed=1)}
    before = net("t = MatMul(x, w) y = MatMul(t, v)", x="float[2, 64]", rank=2, **given)
    after, report = quantized(before, bits=4)
    assert report.steps[0].changes == 2
    assert sum(tensor.shape == (256, 2) for tensor in after.constants()) == 1


def test_shared_weights_are_stored_once() -> None:
    before = net("t = MatMul(x, w) y = MatMul(t, w)", x="float[2, 64]", rank=2, w=weights(64, 64))
    after, report = quantized(before)
    assert report.steps[0].changes == 1
    assert operators(after) == ["Cast", "Cast", "Mul", "MatMul", "MatMul"]


def test_weights_of_a_constant_node() -> None:
    text = "g (float[2, 8] x) => (float[2, 64] y) { w = Constant <value = %s> () y = MatMul(x, w) }"
    values = ", ".join(f"{v:.3f}" for v in weights(8, 64).reshape(-1))
    after, _ = quantized(model(text % f"float[8, 64] {{{values}}}"))
    assert operators(after) == ["Cast", "Cast", "Mul", "MatMul"]


def moved_inputs() -> tuple[Model, Calibration]:
    """A model whose inputs vary together, as those of real layers do."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((512, 24)) @ rng.standard_normal((24, 256)) + 0.5
    feeds = [{"x": part.astype(np.float32)} for part in np.split(mixed, 4)]
    return product(), Calibration.of(feeds)


def noise(before: Model, data: Calibration, **options: Any) -> float:
    """Return the power of what differs, on the data."""
    after, _ = quantized(before, data, **options)
    one, other = (Session(m.to_bytes(), optimize=False) for m in (before, after))
    return sum(float(((one.run(f)["y"] - other.run(f)["y"]) ** 2).sum()) for f in data)


@pytest.mark.parametrize("options", [{"bits": 4}, {"bits": 2}, {"bits": 4, "block": 32}])
def test_second_order_rounding_halves_the_noise(options: dict[str, Any]) -> None:
    before, data = moved_inputs()
    assert noise(before, data, rounding="gptq", **options) < noise(before, data, **options) / 2


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = Conv <pads = [1, 1, 1, 1]> (x, w)", (64, 4, 5, 5)),
        ("y = Conv <group = 2> (x, w)", (64, 2, 3, 3)),
    ],
)
def test_second_order_rounding_of_convolutions(body: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.standard_normal((8, 2, 4, 8, 8)), 3).astype(np.float32)
    data = Calibration.of([{"x": sample} for sample in smooth])
    before = net(body, x="float[2, 4, 8, 8]", w=weights(*shape))
    assert noise(before, data, rounding="gptq", bits=4) < noise(before, data, bits=4) / 1.5


def test_second_order_rounding_without_data_is_to_nearest() -> None:
    one, report = quantized(product(), rounding="gptq")
    other, _ = quantized(product())
    assert one.to_bytes() == other.to_bytes()
    assert report.steps[0].notes[0]["rounding"] == "nearest: it needs calibration data"


def test_notes_the_weights_that_changed() -> None:
    given: dict[str, Any] = {"w": weights(64, 8), "tiny": weights(8, 2)}
    before = net("t = MatMul(x, w) y = MatMul(t, tiny)", x="float[2, 64]", rank=2, **given)
    _, report = quantized(before)
    assert [note["layer"] for note in report.steps[0].notes] == ["w"]


def test_stochastic_rounding_keeps_the_mean() -> None:
    rows = np.where(np.arange(256)[:, None] % 64 == 0, 1, np.full((256, 64), 0.03))
    before = product(w=rows)
    after, _ = quantized(before, bits=4, rounding="stochastic", per_channel=False)
    feed = {"x": np.ones((1, 256), np.float32)}
    sums = [Session(m.to_bytes(), optimize=False).run(feed)["y"] for m in (before, after)]
    assert sums[0].mean() == pytest.approx(sums[1].mean(), rel=0.05)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("body", ["y = MatMul(x, w)", "y = Gemm <transB = 1> (x, v, b)"])
def test_matmulnbits(body: str, bits: int) -> None:
    given: dict[str, Any] = {"w": weights(200, 64), "v": weights(64, 200), "b": weights(64, seed=1)}
    before = net(body, x="float[3, 200]", rank=2, **given)
    after, report = quantized(before, bits=bits, form="matmulnbits")
    assert operators(after)[0] == "MatMulNBits"
    assert error(report) < {8: 0.02, 4: 0.12, 2: 0.7}[bits]


def test_matmulnbits_leaves_other_layers_to_cast() -> None:
    before = net("y = Conv(x, w)", w=weights(64, 3, 3, 3))
    after, _ = quantized(before, form="matmulnbits")
    assert operators(after) == ["Cast", "Cast", "Mul", "Conv"]


@pytest.mark.parametrize(
    ("body", "options", "reason"),
    [
        ("y = MatMul(x, tiny)", {}, "the file would grow by"),
        ("y = MatMul(x, small)", {"bits": 4}, "a table would outweigh the savings"),
        ("t = MatMul(x, w) y = Mul(t, w)", {}, "something else reads its weights too"),
        ("y = MatMul(x, bad)", {}, "its weights are not all finite"),
        ("y = MatMul(x, big)", {"dtype": "fp16"}, "too large for half precision"),
    ],
)
def test_declines(body: str, options: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {
        "tiny": weights(9, 2), "small": weights(9, 20), "w": weights(9, 64),
        "bad": np.full((9, 64), np.inf), "big": np.full((9, 64), 1e5),
    }  # fmt: skip
    used: dict[str, Any] = {name: array for name, array in given.items() if name in body}
    before = net(body, x="float[9, 9]", rank=2, **used)
    assert_declines(before, QuantizeWeights(**options), reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("w = DequantizeLinear(q, s) y = MatMul(x, w)", "stored in few bits already"),
        ("u = Cast <to = 6> (x) v = Cast <to = 3> (u) i = MatMulInteger(v, q) "
         "y = Cast <to = 1> (i)", "computes in integers already"),
    ],
)  # fmt: skip
def test_declines_what_is_quantized_already(body: str, reason: str) -> None:
    given: dict[str, Any] = {"q": weights(64, 64).astype(np.int8), "s": np.array(0.1)}
    used = {
        name: array for name, array in given.items() if f"{name})" in body or f"{name}," in body
    }
    assert_declines(net(body, x="float[2, 64]", rank=2, **used), QuantizeWeights(), reason)


def test_declines_in_a_local_function() -> None:
    values = ", ".join(f"{v:.3f}" for v in weights(8, 64).reshape(-1))
    before = model(
        f"""g (float[2, 8] x) => (float[2, 64] y) {{ y = local.f(x) }}
        <opset_import: ["" : 17], domain: "local"> f (x) => (y) {{
            w = Constant <value = float[8, 64] {{{values}}}> () y = MatMul(x, w)
        }}""",
        17,
    )
    assert_declines(before, QuantizeWeights(), "it stands in a local function")


@pytest.mark.parametrize(
    "spec",
    [
        "{block=-1}",
        "{block=8,per-channel=false}",
        "{form=matmulnbits,dtype=fp16}",
        "{bits=7}",
        "{form=matmulnbits,bits=3}",
    ],
)
def test_refuses_options_that_contradict(spec: str) -> None:
    with pytest.raises(SpecError):
        parse(f"quantize-weights{spec}")


def test_needs_initializers_that_are_no_inputs() -> None:
    assert_declines(product(opset=8, ir=3), QuantizeWeights(), "needs IR version 4")
