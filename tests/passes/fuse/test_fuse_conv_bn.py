"""Conv followed by BatchNormalization."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim import Pipeline
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_conv_bn import FuseConvBn

FUSE = FuseConvBn()


def statistics(channels: int, dtype: Any = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=channels) for name in ("s", "b", "m")}
    values["v"] = rng.uniform(0.5, 2, size=channels)
    return {name: value.astype(dtype) for name, value in values.items()}


def weights(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


BN = "BatchNormalization(c, s, b, m, v)"


def conv_bn(
    conv: str = "Conv(x, w)",
    bn: str = BN,
    x: str = "float[1, 2, 4, 4]",
    opset: int = 20,
    outputs: str = "y",
    given: Mapping[str, Array] = MappingProxyType({}),
) -> Model:
    kind = x.split("[")[0]
    text = f"g ({x} x) => ({kind}[A, B, C, D] y) {{ c = {conv} {outputs} = {bn} }}"
    arrays: dict[str, Array] = {**statistics(3), "w": weights(3, 2, 3, 3), **given}
    return holding(model(text, opset), **arrays)


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 20, 22])
def test_without_a_bias(opset: int) -> None:
    assert_rewrites(conv_bn(opset=opset), FUSE, ["Conv"])


def test_with_a_bias() -> None:
    before = conv_bn("Conv(x, w, k)", given={"k": weights(3)})
    assert_rewrites(before, FUSE, ["Conv"])


def test_with_an_epsilon_that_matters() -> None:
    bn = BN.replace("(", "<epsilon = 0.7>(", 1)
    assert_rewrites(conv_bn(bn=bn), FUSE, ["Conv"])


def test_attributes_of_the_convolution_stay() -> None:
    before = conv_bn("Conv<strides = [2, 1], pads = [1, 0, 1, 0], dilations = [1, 1]>(x, w)")
    after = assert_rewrites(before, FUSE, ["Conv"])
    (conv,) = after.nodes()
    assert conv.attrs == {"strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [1, 1]}


def test_in_groups() -> None:
    before = conv_bn(
        "Conv<group = 2>(x, w)",
        x="float[1, 4, 4, 4]",
        given={"w": weights(6, 2, 3, 3), **statistics(6)},
    )
    assert_rewrites(before, FUSE, ["Conv"])


def test_depthwise() -> None:
    before = conv_bn(
        "Conv<group = 3>(x, w)", x="float[1, 3, 4, 4]", given={"w": weights(3, 1, 3, 3)}
    )
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("dims", ["5", "4, 4, 4"])
def test_in_one_and_three_dimensions(dims: str) -> None:
    rank = dims.count(",") + 1
    y = f"float[{'A, ' * (rank + 1)}B]"
    text = f"g (float[1, 2, {dims}] x) => ({y} y) {{ c = Conv(x, w) y = {BN} }}"
    before = holding(model(text), w=weights(3, 2, *[2] * rank), **statistics(3))
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("constants", ["s", "b", "m", "v", "w", "k"])
def test_what_is_not_constant(constants: str) -> None:
    arrays = {**statistics(3), "w": weights(3, 2, 3, 3), "k": weights(3)}
    shape = ", ".join(map(str, arrays.pop(constants).shape))
    text = f"""g (float[1, 2, 4, 4] x, float[{shape}] {constants}) => (float[A, B, C, D] y) {{
        c = Conv(x, w, k) y = {BN}
    }}"""
    assert_declines(holding(model(text), **arrays), FUSE, "is not a constant")


def test_statistics_that_the_caller_may_replace() -> None:
    text = f"""g (float[1, 2, 4, 4] x, float[3] s = {{1, 2, 3}}) => (float[A, B, C, D] y) {{
        c = Conv(x, w) y = {BN}
    }}"""
    arrays = {k: v for k, v in statistics(3).items() if k != "s"}
    before = holding(model(text), w=weights(3, 2, 3, 3), **arrays)
    assert_declines(before, FUSE, "scale is an input with a default, which callers may change")


# Training -----------------------------------------------------------------------------------------

TRAINS = "BatchNormalization is in training mode"


@pytest.mark.parametrize("opset", [14, 15, 20])
def test_training_by_an_attribute(opset: int) -> None:
    bn = BN.replace("(", "<training_mode = 1>(", 1)
    assert_declines(conv_bn(bn=bn, opset=opset, outputs="y, rm, rv"), FUSE, TRAINS)


def test_training_by_an_attribute_with_one_output() -> None:
    bn = BN.replace("(", "<training_mode = 1>(", 1)
    assert_declines(conv_bn(bn=bn), FUSE, TRAINS)


def test_not_training_by_an_attribute() -> None:
    bn = BN.replace("(", "<training_mode = 0>(", 1)
    assert_rewrites(conv_bn(bn=bn), FUSE, ["Conv"])


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_training_by_the_number_of_outputs(opset: int) -> None:
    assert_declines(conv_bn(opset=opset, outputs="y, rm, rv, sm, sv"), FUSE, TRAINS)


def test_training_unless_told_otherwise() -> None:
    assert_declines(conv_bn(opset=6), FUSE, TRAINS)


def test_statistics_of_elements() -> None:
    bn = BN.replace("(", "<spatial = 0>(", 1)
    before = conv_bn(bn=bn, opset=8)
    assert_declines(before, FUSE, "statistics are per element")


# Numbers ------------------------------------------------------------------------------------------


def test_a_negative_variance() -> None:
    assert_declines(
        conv_bn(given={"v": np.array([1, -1, 1], np.float32)}), FUSE, "statistics are not finite"
    )


@pytest.mark.parametrize("name", ["s", "b", "m", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_not_finite(name: str, value: float) -> None:
    broken = np.array([1, value, 1], np.float32)
    before = conv_bn(given={name: broken})
    if name == "v" and np.isinf(value):
        assert_rewrites(before, FUSE, ["Conv"])  # divides by infinity: the channel is constant
    else:
        assert_declines(before, FUSE, "statistics are not finite")


def test_zero_gamma() -> None:
    assert_rewrites(conv_bn(given={"s": np.array([0, 1, 0], np.float32)}), FUSE, ["Conv"])


def half(scale: float) -> Model:
    statistic = {k: np.abs(v) for k, v in statistics(3, np.float16).items()}
    arrays = {
        **statistic,
        "s": np.full(3, scale, np.float16),
        "w": weights(3, 2, 3, 3, dtype=np.float16),
    }
    text = f"g (float16[1, 2, 4, 4] x) => (float16[A, B, C, D] y) {{ c = Conv(x, w) y = {BN} }}"
    return holding(model(text), **arrays)


def test_half_precision() -> None:
    assert_rewrites(half(1), FUSE, ["Conv"])


def test_half_precision_that_overflows() -> None:
    assert_declines(half(65000), FUSE, "the fused weights overflow float16")


def test_double_precision() -> None:
    before = holding(
        model(f"g (double[1, 2, 4, 4] x) => (double[A, B, C, D] y) {{ c = Conv(x, w) y = {BN} }}"),
        w=weights(3, 2, 3, 3, dtype=np.float64),
        **statistics(3, np.float64),
    )
    after, _ = Pipeline((FUSE,), check="off")(before)  # onnxruntime has no kernel for it
    assert [node.op for node in after.nodes()] == ["Conv"]
    feed = {"x": weights(1, 2, 4, 4, dtype=np.float64)}
    old, new = (np.asarray(ReferenceEvaluator(m.proto()).run(None, feed)) for m in (before, after))
    np.testing.assert_allclose(new, old, rtol=1e-12)


def test_statistics_of_another_type() -> None:
    text = f"g (float16[1, 2, 4, 4] x) => (float16[A, B, C, D] y) {{ c = Conv(x, w) y = {BN} }}"
    before = holding(model(text), w=weights(3, 2, 3, 3, dtype=np.float16), **statistics(3))
    after = assert_rewrites(before, FUSE, ["Conv"])
    assert {c.dtype for c in after.constants()} == {np.dtype(np.float16)}


# Other readers ------------------------------------------------------------------------------------

SHARED = "an inner result is read elsewhere too"


def test_the_convolution_is_read_elsewhere() -> None:
    text = f"""g (float[1, 2, 4, 4] x) => (float[A, B, C, D] z) {{
        c = Conv(x, w) y = {BN} z = Add(y, c)
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE, SHARED)


def test_the_convolution_is_a_graph_output() -> None:
    text = f"""g (float[1, 2, 4, 4] x) => (float[A, B, C, D] y, float[A, B, C, D] c) {{
        c = Conv(x, w) y = {BN}
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE, SHARED)


def test_the_convolution_is_read_in_a_branch() -> None:
    text = f"""g (bool p, float[1, 2, 4, 4] x) => (float[A, B, C, D] y, float[E, F, G, H] z) {{
        c = Conv(x, w) y = {BN}
        z = If (p) <
            then_branch = t () => (float[I, J, K, L] u) {{ u = Neg(c) }},
            else_branch = e () => (float[M, N, O, P] v) {{ v = Abs(x) }}
        >
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE, SHARED)


def test_weights_that_others_read_too() -> None:
    text = f"""g (float[1, 2, 4, 4] x) => (float[A, B, C, D] z) {{
        c = Conv(x, w) y = {BN} d = Conv(x, w) z = Add(y, d)
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE, "the file would grow")


def test_statistics_that_others_read_too() -> None:
    text = f"""g (float[1, 2, 4, 4] x) => (float[A, B, C, D] z) {{
        c = Conv(x, w) y = {BN} k = Shape(s) f = Cast<to = 1>(k) z = Add(y, f)
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_rewrites(before, FUSE, ["Conv", "Shape", "Cast", "Add"])


def test_the_name_of_the_output_stays() -> None:
    after = assert_rewrites(conv_bn(), FUSE, ["Conv"])
    assert [tensor.name for tensor in after.graph.outputs] == ["y"]


# Elsewhere ----------------------------------------------------------------------------------------


def test_inside_a_branch() -> None:
    text = f"""g (bool p, float[1, 2, 4, 4] x) => (float[E, F, G, H] z) {{
        z = If (p) <
            then_branch = t () => (float[I, J, K, L] u) {{ c = Conv(x, w) y = {BN} u = Neg(y) }},
            else_branch = e () => (float[M, N, O, P] d) {{ d = Abs(x) }}
        >
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_rewrites(before, FUSE, ["If", "Conv", "Neg", "Abs"])


def test_a_convolution_outside_a_loop_stays_there() -> None:
    text = f"""g (float[1, 2, 4, 4] x) => (float[E, F, G, H] z)
    <int64 n = {{3}}, bool t = {{1}}, float zero = {{0}}> {{
        c = Conv(x, w)
        z = Loop (n, t, zero)
        <body = l (int64 i, bool go, float[A, B, C, D] a) => (bool go2, float[A, B, C, D] a2) {{
            go2 = Identity(go) y = {BN} a2 = Add(a, y)
        }}>
    }}"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE, "a part of it stands in an outer graph")


FUNCTION = """g (float[1, 2, 4, 4] x) => (float[A, B, C, D] y) {{ y = local.F<e = 0.7>(x) }}
<domain: "local", opset_import: ["" : 20]> F <e> (x) => (y) {{
    w = Constant<value = float[1, 2, 1, 1] {{1, 2}}>() s = Constant<value_floats = [2.0]>()
    c = Conv(x, w) y = BatchNormalization<epsilon{0}>(c, s, s, s, s)
}}"""


def test_inside_a_function() -> None:
    assert_rewrites(model(FUNCTION.format(" = 0.7")), FUSE, ["F", "Conv"])


def test_an_attribute_of_a_call() -> None:
    before = model(FUNCTION.format(": float = @e"))
    assert_declines(before, FUSE, "set by the caller of the function")


def test_a_local_function_called_batch_normalization() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    g (float[1, 2, 4, 4] x) => (float[A, B, C, D] y) {
        c = Conv(x, w) y = local.BatchNormalization(c, s, b, m, v)
    }
    <domain: "local", opset_import: ["" : 20]> BatchNormalization (c, s, b, m, v) => (y) {
        y = Neg(c)
    }"""
    before = holding(model(text), w=weights(3, 2, 3, 3), **statistics(3))
    assert_declines(before, FUSE)
