"""Converting a model to half precision, or back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import pytest
from onnx import TensorProto, helper

import onnxslim
from kit import holding, model, operators
from onnxslim import Model
from onnxslim.cli import main
from onnxslim.edits import convert_floats
from onnxslim.edits.floats import Float
from onnxslim.errors import InputError
from onnxslim.ir import fix_input_shapes
from onnxslim.runtime import Session

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
MLP = """main (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w = {1, 2, 3, 4}> { m = MatMul(x, w) y = Relu(m) }"""


def _is_typed(before: Model) -> bool:
    """Say whether onnx's own type inference accepts the model."""
    try:
        onnx.shape_inference.infer_shapes(before.proto(), check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


class Converted:
    """A converted model that satisfies onnx's checker and that onnxruntime loads."""

    def __init__(
        self, before: str | Model, dtype: Float = "fp16", keep: bool = False, opset: int = 20
    ) -> None:
        self.model = model(before, opset) if isinstance(before, str) else before
        typed = _is_typed(self.model)
        self.notes = convert_floats(self.model, dtype, keep).notes
        self.model.check()
        self.proto = self.model.proto()
        onnx.checker.check_model(self.proto, full_check=typed)
        self.sessions = [Session(self.model.to_bytes(), optimize) for optimize in (False, True)]

    def ends(self) -> list[int]:
        graph = self.proto.graph
        return [info.type.tensor_type.elem_type for info in (*graph.input, *graph.output)]

    def stored(self) -> dict[str, int]:
        return {tensor.name: tensor.data_type for tensor in self.proto.graph.initializer}

    def ops(self) -> list[str]:
        return operators(self.model)

    def run(self, **feed: Any) -> Any:
        """Return the only output, which optimizations must not change much."""
        plain, optimized = (next(iter(s.run(feed).values())) for s in self.sessions)
        np.testing.assert_allclose(plain, optimized, rtol=5e-3, atol=5e-3)
        return plain


def halves(*values: float) -> Any:
    return np.array(values, np.float16)


def singles(*values: float) -> Any:
    return np.array(values, np.float32)


# Tensors ------------------------------------------------------------------------------------------


def test_inputs_outputs_and_weights_become_halves() -> None:
    made = Converted(MLP)
    assert (made.ends(), made.stored()) == ([HALF, HALF], {"w": HALF})
    assert made.ops() == ["MatMul", "Relu"]


def test_it_computes_the_same_up_to_rounding() -> None:
    x = np.array([[0.5, 0.25]], np.float16)
    np.testing.assert_array_equal(Converted(MLP).run(x=x), [[1.25, 2.0]])


def test_the_file_shrinks_with_its_weights() -> None:
    before = holding(
        model("main (float[64] x) => (float[64] y) { y = MatMul(x, w) }"),
        w=np.ones((64, 64), np.float32),
    )
    assert before.size() - Converted(before.copy()).model.size() >= 64 * 64 * 2


def test_types_of_inputs_and_outputs_may_stay() -> None:
    made = Converted(MLP, keep=True)
    assert (made.ends(), made.ops()) == ([SINGLE, SINGLE], ["Cast", "MatMul", "Relu", "Cast"])


def test_integers_and_booleans_stay() -> None:
    text = """main (int64[2] i, bool[2] b, float[2] x) => (float[2] y)
    { a = Gather(x, i) y = Where(b, a, x) }"""
    assert Converted(text).ends() == [TensorProto.INT64, TensorProto.BOOL, HALF, HALF]


def test_doubles_stay() -> None:
    text = "main (double[2] x) => (double[2] y) { y = Abs(x) }"
    assert Converted(text).notes == ["there is nothing to convert to fp16"]


def test_declared_types_follow() -> None:
    made = Converted("main (float[2] x) => (float[2] y) <float[2] a> { a = Abs(x) y = Neg(a) }")
    (info,) = made.proto.graph.value_info
    assert info.type.tensor_type.elem_type == HALF


def test_fixed_shapes_stay() -> None:
    before = model(MLP)
    fix_input_shapes(before, {"x": (3, 2)})
    (x,) = Converted(before).proto.graph.input
    assert helper.printable_value_info(x) == "%x[FLOAT16, 3x2]"


def test_metadata_stay() -> None:
    proto = model(MLP).proto()
    proto.metadata_props.add(key="k", value="v")
    proto.graph.input[0].doc_string = "what comes in"
    made = Converted(Model.from_proto(proto)).proto
    assert (made.metadata_props[0].value, made.graph.input[0].doc_string) == ("v", "what comes in")


def test_halves_become_single() -> None:
    made = Converted(Converted(MLP).model, "fp32")
    assert (made.ends(), made.stored()) == ([SINGLE, SINGLE], {"w": SINGLE})
    assert "lossy" not in made.notes[0]


def test_the_single_model_may_keep_half_ends() -> None:
    made = Converted(Converted(MLP).model, "fp32", keep=True)
    assert (made.ends(), made.stored()) == ([HALF, HALF], {"w": SINGLE})


def test_a_mixed_model_becomes_one_of_halves() -> None:
    text = """main (float[2] x, float16[2] h) => (float[2] y)
    { c = Cast <to = 1> (h) y = Add(x, c) }"""
    assert Converted(text).ends() == [HALF, HALF, HALF]


def test_an_input_that_is_an_output_keeps_its_type() -> None:
    text = "main (float[2] x) => (float[2] x, float[2] y) { y = Abs(x) }"
    made = Converted(text, keep=True)
    assert made.ends() == [SINGLE] * 3


def test_a_constant_that_is_an_output_keeps_its_type() -> None:
    text = """main (float[2] x) => (float[2] w, float[2] y)
    <float[2] w = {1, 2}> { y = Add(x, w) }"""
    made = Converted(text, keep=True)
    assert made.ends() == [SINGLE] * 3
    assert made.stored() == {"w": SINGLE, "w_0": HALF}


def test_the_same_model_gives_the_same_bytes() -> None:
    first, again = Converted(MLP, keep=True), Converted(MLP, keep=True)
    assert first.model.to_bytes() == again.model.to_bytes()


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match="choose fp16 or fp32"):
        convert_floats(model(MLP), "int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("opset", range(7, 23))
def test_every_opset(opset: int) -> None:
    text = """main (float[1, 2, 4, 4] x, float[2, 2, 1, 1] w) => (float[1, 2] y)
    { c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) s = Softmax(f)
      i = Cast <to = 6> (s) b = Cast <to = 1> (i) y = Add(s, b) }"""
    made = Converted(text, opset=opset)
    x, w = np.ones((1, 2, 4, 4), np.float16), np.ones((2, 2, 1, 1), np.float16)
    np.testing.assert_array_equal(made.run(x=x, w=w), [[0.5, 0.5]])


# Constants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["value_float = 0.5", "value_floats = [0.5, 0.5]", "value = float[2] {0.5, 0.5}"]
)
def test_every_form_of_a_constant_node(value: str) -> None:
    text = "main (float[2] x) => (float[2] y) { k = Constant <VALUE> () y = Add(x, k) }"
    made = Converted(text.replace("VALUE", value))
    assert made.run(x=halves(1, 2)).tolist() == [1.5, 2.5]
    assert made.ops() == ["Add"]


def test_integers_of_a_constant_node_stay() -> None:
    text = """main (float[2] x) => (float[1, 2] y)
    { k = Constant <value_ints = [1, 2]> () y = Reshape(x, k) }"""
    assert Converted(text).run(x=halves(1, 2)).tolist() == [[1, 2]]


def test_a_sparse_constant_node_is_cast() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", SINGLE, [1], [0.5]), helper.make_tensor("i", 7, [1], [1]), [2]
    )
    proto = model("main (float[2] x) => (float[2] y) { k = Identity(x) y = Add(x, k) }").proto()
    node = helper.make_node("Constant", [], ["k"], sparse_value=sparse)
    proto.graph.node[0].CopyFrom(node)
    made = Converted(Model.from_proto(proto))
    assert made.ops() == ["Cast", "Add"]
    assert made.run(x=halves(1, 2)).tolist() == [1, 2.5]


def test_a_sparse_initializer() -> None:
    proto = model("main (float[2] x) => (float[2] y) { y = Add(x, s) }").proto()
    values = helper.make_tensor("s", SINGLE, [1], [0.5])
    where = helper.make_tensor("", TensorProto.INT64, [1], [1])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [2]))
    made = Converted(Model.from_proto(proto))
    assert made.run(x=halves(1, 2)).tolist() == [1, 2.5]


def test_an_initializer_that_may_be_overridden() -> None:
    text = """main (float[2] x, float[2] k) => (float[2] y)
    <float[2] k = {0.5, 0.5}> { y = Add(x, k) }"""
    made = Converted(text)
    assert made.ends() == [HALF] * 3
    assert made.run(x=halves(1, 2)).tolist() == [1.5, 2.5]


def test_initializers_that_old_files_list_as_inputs() -> None:
    text = """<ir_version: 3, opset_import: ["" : 8]>
    main (float[2] x, float[2] k) => (float[2] y)
    <float[2] k = {0.5, 0.5}> { y = Add(x, k) }"""
    assert Converted(text).ends() == [HALF] * 3


def test_shared_weights_stay_shared() -> None:
    text = """main (float[2] x) => (float[2] y)
    <float[2] w = {1, 2}> { a = Add(x, w) y = Mul(a, w) }"""
    assert Converted(text).stored() == {"w": HALF}


def test_a_weight_is_kept_for_those_who_need_it_single() -> None:
    made = Converted("""main (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] r, float[4] y)
    <float[4] s = {1, 1, 2, 2}> { r = Resize(x, , s) y = Neg(s) }""")
    assert sorted(made.stored().values()) == [SINGLE, HALF]


def test_not_a_number_and_infinity_stay_what_they_are() -> None:
    made = Converted(
        holding(
            model("main (float[3] x) => (float[3] y) { y = Add(x, k) }"),
            k=singles(np.nan, np.inf, -np.inf),
        )
    )
    assert made.ops() == ["Add"]
    np.testing.assert_array_equal(made.run(x=halves(0, 0, 0)), [np.nan, np.inf, -np.inf])


def test_external_data(tmp_path: Path) -> None:
    before = holding(
        model("main (float[64] x) => (float[64] y) { y = MatMul(x, w) }"),
        w=np.random.default_rng(0).random((64, 64), np.float32),
    )
    before.save(tmp_path / "in.onnx", external=True)
    onnxslim.run(tmp_path / "in.onnx", dtype="fp16").save(tmp_path / "out.onnx", external_data=True)
    assert (tmp_path / "out.onnx.data").stat().st_size == 64 * 64 * 2


# Range --------------------------------------------------------------------------------------------


def test_constants_beyond_halves_stay_single() -> None:
    made = Converted("""main (float[2] x) => (float[2] y)
    <float[2] big = {70000, 1}, float tiny = {0.0001}> { a = Mul(x, big) y = Mul(a, tiny) }""")
    assert made.run(x=halves(1, 1)).tolist() == pytest.approx([7, 0.0001], rel=1e-3)
    assert made.stored()["big"] == SINGLE
    assert made.notes[1] == "fp16: still float, constants out of range: 2 x Mul"


def test_what_meets_such_a_result_ends_it() -> None:
    made = Converted("""main (float[2] x) => (float[2] y)
    <float big = {70000}> { a = Mul(x, big) b = Div(a, x) c = Relu(b) y = Neg(c) }""")
    assert made.notes[1] == "fp16: still float, constants out of range: 1 x Div, 1 x Mul"


def test_a_number_that_vanishes_stays_single() -> None:
    made = Converted("""main (float[2] x) => (float[2] y)
    <float eps = {1e-12}> { s = Mul(x, x) a = Add(s, eps) r = Sqrt(a) y = Div(x, r) }""")
    assert made.run(x=halves(0, 0)).tolist() == [0, 0]


def test_a_mask_stays_finite_up_to_its_softmax() -> None:
    made = Converted("""main (float[2] x, float[2] mask) => (float[2] y)
    <float low = {-3.4e38}> { m = Mul(mask, low) a = Add(x, m) y = Softmax(a) }""")
    assert made.run(x=halves(1, 1), mask=halves(1, 1)).tolist() == [0.5, 0.5]
    assert made.notes[1].endswith("out of range: 1 x Add, 1 x Mul, 1 x Softmax")


def test_single_tiny_weights_among_others_do_not_count() -> None:
    made = Converted("""main (float[2] x) => (float[2] y)
    <float[2] w = {1e-12, 1}> { y = Mul(x, w) }""")
    assert made.stored() == {"w": HALF}


def test_filled_tensors_beyond_halves_stay_single() -> None:
    made = Converted("""main (int64[1] n) => (float[N] y)
    { f = ConstantOfShape <value = float[1] {100000}> (n) r = Sqrt(f) y = Neg(r) }""")
    assert made.run(n=np.array([2])).tolist() == pytest.approx([-316.2] * 2, rel=1e-3)


def test_what_cannot_stay_single_is_clamped() -> None:
    made = Converted("""main (bool c, float[1] x) => (float[1] y)
    { y = If(c) <then_branch = t () => (float[1] p) <float[1] p = {70000}> { },
                 else_branch = e () => (float[1] q) { q = Identity(x) }> }""")
    assert made.notes[-1] == "fp16: clamped to ±65504: 'p'"
    assert made.run(c=np.array(True), x=halves(1)).tolist() == [65504]


def test_positions_stay_single() -> None:
    made = Converted("""main (float[N] x, float[1] scale) => (float[1] y)
    <int64[1] far = {4097}, float half = {0.25}>
    { s = Shape(x) n = Add(s, far) f = Cast <to = 1> (n) h = Mul(f, half) y = Mul(h, scale) }""")
    made_of = [node.op for node in made.model.nodes()]
    assert made_of[:5] == ["Shape", "Add", "Cast", "Mul", "Cast"]
    assert made.notes[1] == "fp16: still float, positions and sizes: 1 x Cast, 1 x Mul"


def test_integers_that_become_values_at_once_are_halves() -> None:
    text = "main (int64[2] i, float[2] x) => (float y) { f = Cast <to = 1> (i) y = MatMul(f, x) }"
    assert Converted(text).ops() == ["Cast", "MatMul"]


# Operators ----------------------------------------------------------------------------------------


def test_scales_of_a_resize_stay_single() -> None:
    made = Converted("""main (float[1, 1, 2, 2] x, float[8] roi) => (float[1, 1, 4, 4] y)
    <float[4] scales = {1, 1, 2, 2}> { y = Resize <mode = "nearest"> (x, roi, scales) }""")
    assert made.stored() == {"scales": SINGLE}
    assert made.ops() == ["Resize"]


def test_computed_scales_are_computed_in_single() -> None:
    made = Converted("""main (float[1, 1, 2, 2] x, int64[4] n) => (float[A, B, C, D] y)
    <float three = {3}> { f = Cast <to = 1> (n) s = Div(f, three) y = Resize(x, , s) }""")
    n = np.array([3, 3, 6, 6])
    assert made.ops() == ["Cast", "Div", "Resize"]
    assert made.run(x=np.ones((1, 1, 2, 2), np.float16), n=n).shape == (1, 1, 4, 4)


def test_sizes_of_a_resize_are_left_alone() -> None:
    made = Converted("""main (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y)
    <int64[4] n = {1, 1, 4, 4}> { y = Resize(x, , , n) }""")
    assert made.ops() == ["Resize"]


def test_casts_to_single_become_casts_to_half() -> None:
    made = Converted("main (double[2] x) => (float[2] y) { c = Cast <to = 1> (x) y = Tanh(c) }")
    assert [node.attr("to") for node in made.model.graph.nodes] == [HALF, None]


def test_a_cast_from_single_reads_halves() -> None:
    assert Converted("main (float[2] x) => (int64[2] y) { y = Cast <to = 7> (x) }").ops() == [
        "Cast"
    ]


def test_a_range_stays_single() -> None:
    made = Converted("""main (float n) => (float[N] y)
    <float zero = {0}, float step = {0.5}> { r = Range(zero, n, step) y = Neg(r) }""")
    assert made.ops() == ["Cast", "Range", "Cast", "Neg"]
    assert made.run(n=np.array(1, np.float16)).tolist() == [0, -0.5]


@pytest.mark.parametrize("value", ["", "<value = float[1] {0}>"])
def test_filled_tensors_become_halves(value: str) -> None:
    text = f"main (int64[1] n) => (float[N] y) {{ f = ConstantOfShape {value} (n) y = Cos(f) }}"
    assert Converted(text).run(n=np.array([2])).dtype == np.float16


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_weights_are_stored_as_halves(op: str, gates: int) -> None:
    before = holding(
        model(
            f"""main (float[3, 1, 2] x) => (float[3, 1, 1, 2] y)
            {{ y = {op} <hidden_size = 2> (x, w, r) }}"""
        ),
        w=np.full((1, gates * 2, 2), 0.1, np.float32),
        r=np.full((1, gates * 2, 2), 0.1, np.float32),
    )
    made = Converted(before)
    assert set(made.stored().values()) == {HALF}
    assert sorted(set(made.ops())) == sorted({"Cast", op})
    assert np.isfinite(made.run(x=np.ones((3, 1, 2), np.float16))).all()


def test_between_quantizers_nothing_changes() -> None:
    made = Converted("""main (float[2] x) => (float[2] y) <float s = {0.0001}, uint8 z = {128}>
    { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = Relu(d)
      p = QuantizeLinear(r, s, z) e = DequantizeLinear(p, s, z) y = Neg(e) }""")
    assert made.ops() == [
        "Cast", "QuantizeLinear", "DequantizeLinear", "Relu", "QuantizeLinear", "DequantizeLinear",
        "Cast", "Neg",
    ]  # fmt: skip
    assert made.stored()["s"] == SINGLE


def test_weights_that_are_dequantized_may_meet_halves() -> None:
    made = Converted("""main (float[1, 2] x) => (float[1, 2] y)
    <float s = {0.5}, int8[2, 2] q = {1, 2, 3, 4}>
    { w = DequantizeLinear(q, s) y = MatMul(x, w) }""")
    assert made.ops() == ["DequantizeLinear", "Cast", "MatMul"]


NO_KERNEL = {
    "ScatterND": """main (float[3] x, int64[1, 1] i, float[1] u) => (float[3] y)
    { y = ScatterND <reduction = "add"> (x, i, u) }""",
    "ScatterElements": """main (float[3] x, int64[1] i, float[1] u) => (float[3] y)
    { y = ScatterElements <reduction = "mul"> (x, i, u) }""",
    "MeanVarianceNormalization": """main (float[1, 2, 2, 2] x) => (float[1, 2, 2, 2] y)
    { y = MeanVarianceNormalization <axes = [0, 2, 3]> (x) }""",
    "RandomNormalLike": "main (float[2] x) => (float[2] y) { y = RandomNormalLike(x) }",
    "RandomUniform": """main (float[2] x) => (float[2] y)
    { r = RandomUniform <shape = [2]> () y = Add(x, r) }""",
    "EyeLike": "main (int64[2, 2] x) => (float[2, 2] y) { y = EyeLike <dtype = 1> (x) }",
    "HannWindow": "main (int64 x) => (float[N] y) { y = HannWindow(x) }",
    "NonMaxSuppression": """main (float[1, 4, 4] x, float[1, 1, 4] u) => (int64[N, 3] y)
    { y = NonMaxSuppression(x, u) }""",
}


@pytest.mark.parametrize("op", NO_KERNEL)
def test_operators_without_kernels_for_halves_stay_single(op: str) -> None:
    made = Converted(NO_KERNEL[op])
    assert f"1 x {op}" in made.notes[1]
    assert "Cast" in made.ops()


def test_scatters_that_do_not_reduce_become_halves() -> None:
    text = NO_KERNEL["ScatterND"].replace('<reduction = "add">', "")
    assert Converted(text).ops() == ["ScatterND"]


def test_the_bits_of_a_float_are_those_of_its_type() -> None:
    text = """<ir_version: 12, opset_import: ["" : 26]>
    main (float[2] x) => (int32[2] y) { n = Neg(x) y = BitCast <to = 6> (n) }"""
    assert Converted(text).ops() == ["Neg", "Cast", "BitCast"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_decomposed_layer_normalization_loads(keep: bool) -> None:
    text = """main (float[2, 8] x) => (float[2, 8] y)
    <float two = {2}, float eps = {0.00001}, int64[1] a = {-1},
     float[8] g = {1, 1, 1, 1, 1, 1, 1, 1}>
    { mu = ReduceMean(x, a) d = Sub(x, mu) s = Pow(d, two) v = ReduceMean(s, a) e = Add(v, eps)
      r = Sqrt(e) n = Div(d, r) m = Mul(n, g) y = Add(m, g) }"""
    assert "ReduceMean" in Converted(text, keep=keep).ops()


def test_transposed_batches_before_a_matrix_stay_single() -> None:
    text = """main (float[2, 3, 4] x) => (float[4, 3, 2] y)
    <float[2, 2] w = {1, 2, 3, 4}> { t = Transpose <perm = [2, 1, 0]> (x) y = MatMul(t, w) }"""
    assert "1 x Transpose" in Converted(text).notes[1]


def test_what_a_node_computes_in_single_is_handed_out_as_it_is() -> None:
    made = Converted(NO_KERNEL["RandomNormalLike"], keep=True)
    assert made.ops() == ["RandomNormalLike"]


def test_quantizers_hand_out_what_they_compute() -> None:
    text = """main (float[2] x) => (float[2] y) <float s = {0.5}, uint8 z = {128}>
    { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
    assert Converted(text, keep=True).ops() == ["QuantizeLinear", "DequantizeLinear"]


# Other domains ------------------------------------------------------------------------------------


def test_operators_of_onnxruntime_stay_single() -> None:
    made = Converted("""main (float[2, 4] x, float[4] b) => (float[2, 4] y)
    { a = Abs(x) g = com.microsoft.BiasGelu(a, b) y = Neg(g) }""")
    assert made.ops() == ["Abs", "Cast", "Cast", "BiasGelu", "Cast", "Neg"]


def test_their_integer_results_are_known() -> None:
    made = Converted("""main (int32[1, 2] i, float[4, 8] w, float[8] g)
    => (float[A, B, C] y, int32[D] z)
    { e, m = com.microsoft.EmbedLayerNormalization(i, , w, w, , g, g)
      y = Neg(e) z = Neg(m) }""")
    assert made.ends()[-2:] == [HALF, TensorProto.INT32]


def test_maps_in_a_sequence_stay() -> None:
    made = Converted("""main (float[N, 2] x) => (seq(map(int64, float)) y) { a = Abs(x)
    y = ai.onnx.ml.ZipMap <classlabels_int64s = [1, 2]> (a) }""")
    assert made.ops() == ["Abs", "Cast", "ZipMap"]


def test_operators_that_nobody_knows_are_taken_to_keep_the_type() -> None:
    text = """<ir_version: 8, opset_import: ["" : 20, "my" : 1]>
    main (float[2] x) => (float[2] y) { a = my.Thing(x) y = Neg(a) }"""
    made = model(text)
    convert_floats(made, "fp16")
    assert operators(made) == ["Cast", "Thing", "Cast", "Neg"]


def test_a_model_without_operators_of_onnx_is_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["ai.onnx.ml" : 3]>
    main (float[2] x) => (float[2] y) { y = ai.onnx.ml.Binarizer <threshold = 0.5> (x) }"""
    before = model(text)
    frozen = before.to_bytes()
    assert not convert_floats(before, "fp16").changed
    assert before.to_bytes() == frozen


def test_subgraphs_of_operators_that_nobody_knows_stay_single() -> None:
    text = """<ir_version: 8, opset_import: ["" : 20, "my" : 1]>
    main (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
    { a = Abs(x) y = Mul(f, w)
      f = my.Each <body = b (float[2] i) => (float[2] o) { s = Add(i, a) o = Mul(s, w) }> (a) }"""
    made = model(text)
    convert_floats(made, "fp16")
    onnx.checker.check_model(made.proto())
    assert operators(made) == ["Abs", "Cast", "Each", "Cast", "Mul", "Add", "Mul"]
    assert sorted(t.elem_type for t in made.constants()) == [SINGLE, HALF]


# Subgraphs and functions --------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_branches_read_what_is_around_them(keep: bool) -> None:
    made = Converted(
        """main (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}>
    { a = Abs(x) y = If(c) <then_branch = t () => (float[2] p) { p = Add(a, w) },
                            else_branch = e () => (float[2] q) { q = Mul(x, w) }> }""",
        keep=keep,
    )
    x = singles(-1, 2) if keep else halves(-1, 2)
    assert made.run(c=np.array(True), x=x).tolist() == [2, 4]


def test_a_node_that_stays_may_lie_in_a_branch() -> None:
    made = Converted("""main (bool c, float n) => (float[N] y) <float zero = {0}, float one = {1}>
    { a = Abs(n) y = If(c) <then_branch = t () => (float[P] p) { p = Range(zero, a, one) },
                            else_branch = e () => (float[Q] q) { q = Range(a, zero, one) }> }""")
    assert made.run(c=np.array(True), n=np.array(3, np.float16)).tolist() == [0, 1, 2]


def test_loops_carry_halves() -> None:
    made = Converted("""main (int64 n, bool go, float[1] x) => (float[1] y) <float[1] w = {0.5}>
    { y = Loop(n, go, x) <body = b (int64 i, bool c, float[1] s) => (bool d, float[1] t)
                          { d = Identity(c) t = Add(s, w) }> }""")
    assert made.run(n=np.array(3), go=np.array(True), x=halves(1)).tolist() == [2.5]


def test_scans_read_halves() -> None:
    made = Converted("""main (float[1] s, float[3, 1] x) => (float[3, 1] y) <float[1] w = {0.5}>
    { f, y = Scan(s, x) <num_scan_inputs = 1, body =
        b (float[1] i, float[1] e) => (float[1] o, float[1] p)
        { o = Add(i, e) p = Mul(o, w) }> }""")
    assert made.run(s=halves(0), x=np.ones((3, 1), np.float16)).ravel().tolist() == [0.5, 1, 1.5]


FUNCTION = """main (float[2] x) => (float[2] y) { y = local.half(x) }
<domain: "local", opset_import: ["" : 20]> half (i) => (o)
{ k = Constant <value = float {0.5}> () o = Mul(i, k) }"""


def test_functions_compute_in_halves() -> None:
    made = Converted(FUNCTION)
    assert made.ops() == ["half", "Mul"]
    assert made.run(x=halves(1, 2)).tolist() == [0.5, 1]


def test_functions_called_for_two_types_stay() -> None:
    made = Converted("""main (float[2] x, double[2] z) => (float[2] y, double[2] w)
    { y = local.same(x) w = local.same(z) }
    <domain: "local", opset_import: ["" : 20]> same (i) => (o) { o = Abs(i) }""")
    assert made.ops() == ["Cast", "same", "Cast", "same", "Abs"]
    assert made.notes[-1] == "fp16: functions whose types differ by call stay: 'same'"


def test_functions_that_are_told_a_type_stay() -> None:
    made = Converted("""main (float[2] x) => (float[2] y) { y = local.to <kind = 1> (x) }
    <domain: "local", opset_import: ["" : 20]> to <kind> (i) => (o)
    { o = Cast <to: int = @kind> (i) }""")
    assert made.ops() == ["Cast", "to", "Cast", "Cast"]


def test_a_function_may_be_called_by_another_one() -> None:
    made = Converted("""main (float[2] x) => (float[2] y) { y = local.outer(x) }
    <domain: "local", opset_import: ["" : 20, "local" : 1]> outer (i) => (o)
    { a = local.inner(i) o = Neg(a) }
    <domain: "local", opset_import: ["" : 20]> inner (i) => (o)
    { k = Constant <value = float {2}> () o = Add(i, k) }""")
    assert made.run(x=halves(1, 2)).tolist() == [-3, -4]


# Sequences and optionals --------------------------------------------------------------------------


def test_sequences_hold_halves() -> None:
    made = Converted("""main (float[2] x) => (float[4] y)
    { n = Neg(x) s = SequenceConstruct(x, n) y = ConcatFromSequence <axis = 0> (s) }""")
    assert made.run(x=halves(1, 2)).tolist() == [1, 2, -1, -2]


def test_an_empty_sequence_is_made_for_halves() -> None:
    made = Converted("""main (float[2] x) => (float[2] y)
    { e = SequenceEmpty() s = SequenceInsert(e, x) y = ConcatFromSequence <axis = 0> (s) }""")
    assert made.run(x=halves(1, 2)).tolist() == [1, 2]


def test_sequences_are_not_cast() -> None:
    text = """main (seq(float[2]) x) => (float[N] y) { y = ConcatFromSequence <axis = 0> (x) }"""
    assert (
        Converted(text).proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type
        == HALF
    )
    with pytest.raises(InputError, match=r"seq\(tensor\(float\)\), would have to be cast"):
        convert_floats(model(text), "fp16", True)


def test_an_empty_optional_is_one_of_halves() -> None:
    proto = model(
        "main (float[2] x) => (float[2] y, bool z) { o = Identity(x) y = Abs(x) z = Not(b) }"
    ).proto()
    kind = helper.make_tensor_type_proto(SINGLE, [2])
    proto.graph.node[0].CopyFrom(helper.make_node("Optional", [], ["o"], type=kind))
    proto.graph.node[2].CopyFrom(helper.make_node("OptionalHasElement", ["o"], ["z"]))
    made = Converted(Model.from_proto(proto))
    assert made.proto.graph.node[0].attribute[0].tp.tensor_type.elem_type == HALF


# Reports ------------------------------------------------------------------------------------------


def test_the_report_says_that_it_is_lossy() -> None:
    report = onnxslim.run(model(MLP), dtype="fp16").report
    assert (
        report.warnings[0]
        == "fp16: 4 constant values converted; lossy: weights and results are rounded"
    )
    assert report.warnings[1].startswith("fp16: largest error ")


def test_a_model_that_needs_no_conversion_is_not_touched(tmp_path: Path) -> None:
    model("main (int64[2] x) => (int64[2] y) { y = Neg(x) }").save(tmp_path / "in.onnx")
    outcome = onnxslim.run(tmp_path / "in.onnx", dtype="fp16")
    assert outcome.model.pristine
    assert outcome.report.warnings == ("there is nothing to convert to fp16",)


def test_the_report_compares_with_the_model_in_single() -> None:
    report = onnxslim.run(model(MLP), dtype="fp16").report
    assert report.before.bytes > report.after.bytes


def test_the_command_line_says_that_it_is_lossy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model(MLP).save(tmp_path / "in.onnx")
    assert main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--dtype", "fp16"]) == 0
    printed = capsys.readouterr()
    assert "lossy" in printed.out + printed.err


def test_what_cannot_be_converted_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.onnx"
    model("main (seq(float[2]) x) => (float[N] y) { y = ConcatFromSequence <axis = 0> (x) }").save(
        path
    )
    assert main([str(path), str(tmp_path / "out.onnx"), "--dtype", "fp16", "--keep-io-types"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
