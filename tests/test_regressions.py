"""What random models found, as small as it gets."""

import logging

import numpy as np
import pytest
from onnx import numpy_helper

import onnxslim
from kit import assert_declines, assert_rewrites, holding, model
from onnxslim import Model, Pipeline, parse, shapes
from onnxslim.ir import fix_input_shapes
from onnxslim.passes.channels.drop_dead_channels import DropDeadChannels
from onnxslim.passes.channels.fold_constant_channels import FoldConstantChannels
from onnxslim.passes.channels.merge_duplicate_channels import MergeDuplicateChannels
from onnxslim.passes.fuse.compose_activations import ComposeActivations
from onnxslim.passes.fuse.compose_softmax import ComposeSoftmax
from onnxslim.passes.fuse.fuse_affine import FuseAffine
from onnxslim.passes.fuse.fuse_matmul_add import FuseMatmulAdd
from onnxslim.passes.simplify.bypass_concats import BypassConcats
from onnxslim.passes.simplify.cancel_reshapes import CancelReshapes
from onnxslim.passes.simplify.cancel_transposes import CancelTransposes
from onnxslim.passes.simplify.drop_expands import DropExpands
from onnxslim.passes.simplify.drop_idempotent import DropIdempotent
from onnxslim.passes.simplify.drop_noop_movement import DropNoopMovement
from onnxslim.passes.simplify.fold_known_values import FoldKnownValues
from onnxslim.passes.simplify.lift_constants import LiftConstants
from onnxslim.passes.simplify.lift_scalars import LiftScalars
from onnxslim.passes.simplify.merge_concats import MergeConcats
from onnxslim.passes.simplify.merge_reduces import MergeReduces
from onnxslim.passes.simplify.merge_reshapes import MergeReshapes
from onnxslim.passes.simplify.merge_scalars import MergeScalars
from onnxslim.passes.simplify.simplify_shape_inputs import SimplifyShapeInputs
from onnxslim.passes.simplify.unpack_sequences import UnpackSequences


def test_constants_that_passes_made_are_no_undefined_tensors() -> None:
    before = model(
        "g (float[N] x) => (float[N] y) { c = Constant<value_float = 2.0>() y = Add(x, c) }"
    )
    once = assert_rewrites(before, LiftConstants(), ["Add"])
    twice, report = Pipeline(parse("lossless"))(once)
    assert twice is once
    assert not report.changed


def test_tanh_of_one_double_is_not_tanh_of_many() -> None:
    before = model("""g (double[N, 4, 4, 4] x) => (double[N, 4, 4, 4] y)
    <double[1, 1, 1, 1] c = {0.1257302210933933}, int64[4] s = {1, 4, 4, 4}> {
        e = Expand(c, s) t = Tanh(e) y = Add(x, t)
    }""")
    assert_rewrites(before, DropExpands(), ["Tanh", "Add"])


def test_axes_out_of_order_are_valid_though_the_checker_misreads_them() -> None:
    before = model("""g (float[1, 3, 1] x, int64[1] axes) => (float[1] y)
    <int64[1] start = {2}, int64[1] end = {3}> {
        s = Squeeze<axes = [2, 0]>(x) a = Slice(s, start, end, axes) y = Transpose<perm = [0]>(a)
    }""", opset=10)  # fmt: skip
    assert_rewrites(before, DropNoopMovement(), ["Squeeze", "Slice"])


def test_what_was_not_folded_may_be_constant() -> None:
    before = model("""g (float[N, 2] x) => (float[N, 2] y) <float[1, 2] c = {1, 2}> {
        s = ReduceLogSumExp<axes = [1]>(c) d = Sub(c, s) y = Add(x, d)
    }""", opset=13)  # fmt: skip
    assert_rewrites(before, ComposeSoftmax(), ["LogSoftmax", "Add"])


def test_a_constant_that_broadcasts_to_nothing_is_not_moved() -> None:
    before = model("""g (float[2, 3, 0] x, bool[2, 3, 0] m) => (float[2, 0, 3] y)
    <float[3, 1] c = {2.5, 1, -1.5}, int64[3] s = {2, 0, 3}> {
        a = Where(m, c, x) y = Reshape<allowzero = 1>(a, s)
    }""")
    assert_declines(before, CancelReshapes())


def test_copies_of_a_channel_are_more_channels() -> None:
    before = model("""g (float[4] x) => (float[9, 2] y, float[1] z) <
        float[2, 1] c = {1, 2}, int64[4] pads = {1, 0, 0, 2}, int64[2] s = {9, 1},
        float[1, 2] w = {1, 2}, int64[1] start = {0}, int64[1] end = {1}
    > {
        a = Relu(c) b = Pad<mode = "edge">(a, pads) d = Reshape(b, s) y = MatMul(d, w)
        z = Slice(x, start, end)
    }""")
    assert_declines(before, DropDeadChannels())


def test_a_part_without_channels_meets_a_single_one() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[0] z) <
        float[2] c = {1, 2}, float[2, 2] w = {1, 0, 3, 0}, int64[1] end = {2}
    > {
        a = Concat<axis = 0>(x, c) b = Slice(a, end, end) d = Constant<value_floats = [1.0]>()
        z = Min(b, d) y = MatMul(x, w)
    }""")
    assert_declines(before, FoldConstantChannels())


def test_a_slope_of_higher_rank_leaves_the_rank_in_doubt() -> None:
    before = model("""g (float x, float[2] v) => (float[?] y, float[2] z) <
        float[1] slope = {0.5}, float[2, 2] w = {1, 0, 3, 0}
    > {
        p = PRelu(x, slope) y = Add(p, x) z = MatMul(v, w)
    }""")  # onnxruntime computes a vector of one element, ONNX foresees a scalar
    assert_declines(before, FoldConstantChannels())


def test_a_constant_node_reads_nothing() -> None:
    before = model("""g (int64 n, bool go) => (float[1] y) {
        c = Constant<value_floats = [0.0]>()
        y = Loop(n, go, c) <body = b (int64 i, bool on, float[1] s) => (bool on2, float[1] s2) {
            on2 = Identity(on) d = Constant<value_floats = [0.0]>() s2 = Relu(d)
        }>
    }""")
    assert_declines(before, DropIdempotent())


def test_halves_are_rounded_elsewhere_when_a_node_goes() -> None:
    before = model("""g (float16[1, 3, 4, 4] x) => (float16[1, 1, 4, 4] y) <
        float16[3, 1, 1, 1] w = {13000, 14000, 15000}, float16[3, 1, 1, 1] v = {13100, 13800, 14900}
    > {
        c = ConvTranspose(x, w) d = Concat<axis = 1>(c, c) e = Concat<axis = 1>(c, d)
        y = ConvTranspose(e, v)
    }""")
    assert_rewrites(before, MergeConcats(), ["ConvTranspose", "Concat", "ConvTranspose"])


def test_an_operand_of_lower_rank_is_transposed_otherwise() -> None:
    before = model("""g (float[2, 2, 4, 4] x, float[4, 1] m) => (float[2, 2, 4, 4] y) {
        t = Transpose<perm = [1, 0]>(m) a = Add(x, t) y = Transpose<perm = [1, 0, 2, 3]>(a)
    }""")
    assert_declines(before, CancelTransposes())


def test_a_constant_with_a_longer_name_counts() -> None:
    before = model("""g (double[2, 4, 4, 4] x) => (double[2, 4, 4, 4] y)
    <double[1, 1, 1, 1] c = {1}> {
        t0 = Shape(x) y = Expand(c, t0)
    }""")
    after = assert_rewrites(before, SimplifyShapeInputs(), ["Expand"])
    assert after.size() <= before.size()


def test_the_value_of_a_constant_node_has_no_name() -> None:
    before = model("g (float[2, 3] x) => (int64 s) { abs = Abs(x) s = Size(abs) }")
    after = assert_rewrites(before, FoldKnownValues(), [])
    assert after.size() <= before.size()
    (constant,) = after.proto().graph.node
    assert not constant.attribute[0].t.HasField("name")


def test_onnx_overlooks_squeezed_axes_out_of_order() -> None:
    before = model(
        """g (float[4, 1, 1, 2] x) => (float[2, 2, 2] y) <int64[3] s = {2, 2, 2}> {
            q = Squeeze<axes = [2, 1]>(x) t = Transpose<perm = [1, 0]>(q) y = Reshape(t, s)
        }""",
        opset=8,
    )
    assert_declines(before, MergeReshapes())


def test_an_expanded_scalar_has_fewer_dimensions() -> None:
    before = model("""g (double x) => (double[2] y) <int64[1] two = {2}> {
        e = Expand(x, two) y = Neg(e)
    }""")
    assert_declines(before, DropExpands())


def test_before_opset_9_an_integer_output_is_no_constant_node() -> None:
    before = model("g (float[3, 4, 3] x) => (int64[3] s) { s = Shape(x) }", opset=7)
    assert_declines(before, FoldKnownValues(), "floats only")


def test_before_opset_9_and_ir_4_an_integer_is_an_initializer_and_an_input() -> None:
    before = model(
        """g (float[2, 3, 4, 5] x, int64[1] rest) => (float[2, 3, 20] y) <int64[1] rest = {-1}> {
            shape_of_x = Shape(x) half = Slice<starts = [0], ends = [2]>(shape_of_x)
            whole = Concat<axis = 0>(half, rest) y = Reshape(x, whole)
        }""",
        opset=8,
        ir=3,
    )
    after = assert_rewrites(before, FoldKnownValues(), ["Reshape"])
    assert [info.name for info in after.proto().graph.input] == ["x", "whole"]


def test_before_ir_4_a_folded_value_counts_for_what_it_takes_in_the_file() -> None:
    before = model(
        """g (float[1, 10] x) => (float[1, 10] y) {
            s = Shape(x)
            a = Slice<starts = [0], ends = [1]>(s) b = Slice<starts = [1], ends = [2]>(s)
            t = Concat<axis = 0>(a, b) z = ConstantOfShape<value = float[1] {0}>(t) y = Sub(x, z)
        }""",
        opset=9,
        ir=3,
    )
    once, _ = Pipeline(parse("lossless"))(before)
    assert not Pipeline(parse("lossless"))(once)[1].changed


def test_a_reshape_of_nothing_may_have_any_shape() -> None:
    before = model("""g (float[0, 4] x, int64[1] n) => (float[0, M] y) <int64[1] zero = {0}> {
        s = Concat<axis = 0>(zero, n) y = Reshape(x, s)
    }""")
    assert_declines(before, DropNoopMovement())


def test_a_mean_of_integers_is_rounded_each_time() -> None:
    before = model(
        """g (int32[2, 2] x) => (int32 y) {
            m = ReduceMean<axes = [0], keepdims = 0>(x) y = ReduceMean<axes = [0], keepdims = 0>(m)
        }""",
        opset=13,
    )
    assert_declines(before, MergeReduces())


def test_half_of_an_integer_matrix_is_rounded_before_it_is_multiplied() -> None:
    before = model("""g (int32[2, 2] x, int32[2, 2] y) => (int32[2, 2] z)
    <int32 two = {2}, int32 three = {3}> {
        a = Div(x, two) b = Mul(y, three) z = MatMul(a, b)
    }""")
    assert_declines(before, MergeScalars())


@pytest.mark.parametrize("empty", ["float[0, 3, 2]", "float[0, 3]"])
def test_onnxruntime_lets_empty_tensors_of_any_shape_pass(empty: str) -> None:
    before = model(f"""g (float[4, 2] x, {empty} y) => (float[M, N] z) {{
        s = SequenceConstruct(x, y) z = ConcatFromSequence<axis = -1>(s)
    }}""")
    assert_declines(before, UnpackSequences())


def test_an_axis_of_a_constant_that_broadcasts_is_another_one() -> None:
    before = model("""g (float[2, 3, 4] x) => (float[2, 3, 4] y) <float[3] c = {1, 2, 3}> {
        t = Transpose<perm = [0, 2, 1]>(x) s = Softmax<axis = 0>(c) a = Add(t, s)
        y = Transpose<perm = [0, 2, 1]>(a)
    }""")
    assert_declines(before, CancelTransposes())


def test_onnx_takes_an_stft_for_two_sided() -> None:
    before = model(
        """g (float[1, 8, 1] x) => (int64[4] y) <int64 step = {2}, float[4] window = {1, 1, 1, 1}> {
            f = STFT(x, step, window) y = Shape(f)
        }"""
    )
    after = assert_rewrites(before, FoldKnownValues(), [])
    (constant,) = after.proto().graph.node
    assert numpy_helper.to_array(constant.attribute[0].t).tolist() == [1, 3, 3, 2]


def test_an_empty_dimension_may_be_fixed_as_it_is() -> None:
    before = model("g (float[0, N] x) => (float[0, N] y) { y = Neg(x) }")
    fix_input_shapes(before, {"x": (0, 3)})
    assert before.graph.inputs[0].shape == [0, 3]


def test_backwards_to_the_largest_number_is_to_the_front_in_onnxruntime() -> None:
    before = model("""g (float[2, 3] x) => (int64[M] y) <int64[1] last = {-1}> {
        s = Shape(x) end = Constant<value = int64[1] {9223372036854775807}>()
        zero = Constant<value = int64[1] {0}>() y = Slice(s, last, end, zero, last)
    }""")
    after, report = Pipeline((FoldKnownValues(),), check="each")(before)
    assert not report.warnings
    assert "Slice" in [node.op for node in after.nodes()]


def test_a_slope_of_higher_rank_than_its_operand_gives_a_rank_that_onnx_does_not_foresee() -> None:
    before = model("""g (float[1, 4, 1, 1] s) => (float[?, ?, ?, ?] y) <float[0, 2] x = {}> {
        p = PRelu(x, s) y = Transpose<perm = [2, 0, 1, 3]>(p)
    }""")
    assert_declines(before, DropNoopMovement())


def test_axes_from_the_end_before_opset_11_are_what_onnxruntime_makes_of_them() -> None:
    before = model(
        """g (float[4, 3] x) => (int64[?] n) <int64[1] last = {3}> {
            u = Unsqueeze<axes = [-2, 1]>(x) s = Shape(u) n = Gather(s, last)
        }""",
        opset=9,
    )
    (after,) = assert_rewrites(before, FoldKnownValues(), []).graph.outputs
    assert after.values.tolist() == [3]


def test_a_product_that_is_added_to_itself_is_still_read() -> None:
    before = model("""g (float[4, 2] x, float[2, 2] w) => (float[4, 2] y) {
        p = MatMul(x, w) y = Add(p, p)
    }""")
    assert_declines(before, FuseMatmulAdd(), "an inner result is read elsewhere too")


def test_a_slice_of_which_nothing_is_left_is_not_followed() -> None:
    before = model(
        """g (float[4, 3, 4, 2] x) => (float[?, ?, ?, ?] y)
        <float[6, 1, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[6] b = {2, -2, 0, -2, 2, 3},
         int64[1] start = {0}, int64[1] end = {-9}, int64[1] axis = {1}> {
            c = Conv<group = 3>(x, w, b) p = Pad<pads = [0, 0, 0, 0, 0, 2, 0, 0]>(c)
            y = Slice(p, start, end, axis)
        }""",
        opset=10,
    )
    _, report = Pipeline(parse("drop-dead-channels"), check="each")(before)
    assert not report.warnings


def test_axes_that_onnx_misreads_make_no_result_invalid() -> None:
    before = model(
        "g (float[2, 1, 3] x) => (float[?, ?] y) { i = Identity(x) y = Squeeze<axes = [-2]>(i) }",
        opset=9,
    )
    after, report = Pipeline(parse("drop-identity"))(before)
    assert not report.warnings
    assert [node.op for node in after.nodes()] == ["Squeeze"]


def test_an_unknown_dimension_of_an_empty_tensor_may_be_any_number() -> None:
    before = model("""g (float[K, N, 4] x, int64[1] w) => (float[?, ?, ?] y)
    <int64[1] zero = {0}, int64[1] four = {4}> {
        s = Concat<axis = 0>(zero, w, four) y = Reshape(x, s)
    }""")
    assert_declines(before, SimplifyShapeInputs(), "leaves -1 without a meaning")


def test_a_slope_of_higher_rank_broadcasts_what_it_multiplies() -> None:
    before = model(
        """g (float[4, 1] x, float[2, 3, 1, 2] slope) => (int64 y) <int64 third = {3}> {
            p = PRelu(x, slope) s = Shape(p) y = Gather(s, third)
        }""",
        opset=16,
    )
    _, report = Pipeline(parse("lossless"))(before)
    assert not report.warnings


def test_an_unknown_dimension_of_a_slope_may_be_the_larger_one() -> None:
    before = model(
        """g (float[1, ?, 3, ?] x, float[?, ?, 3, 1] slope) => (int64[1] y)
        <int64[1] first = {0}> { p = PRelu(x, slope) s = Shape(p) y = Gather(s, first) }""",
        opset=16,
    )
    _, report = Pipeline(parse("fold-known-values"), check="off")(before)
    assert report.after == report.before


def test_an_empty_part_of_a_concat_that_loses_channels_stays() -> None:
    before = model(
        """g (float[2, 0, 2, 3, 4] x, float[2, 1] a) => (float[?, ?, ?, ?, ?] y, float[2, 1] b)
        <float[2, 0, 2, 3, 4] e = {}, float[1, 1] w = {2.25}> {
            b = MatMul(a, w) c = Concat<axis = 3>(e, x)
            s = Slice<axes = [3, 4], starts = [2, -1], ends = [2147483647, -9223372036854775807]>(c)
            y = Transpose(s)
        }""",
        opset=7,
    )
    _, report = Pipeline(parse("lossless"), check="each")(before)
    assert not report.warnings


SLICED = """
    g (float[M, N, K] x) => (int64[1] y) <int64[1] zero = {{0}}, int64[1] two = {{2}}> {{
        s = {cut} f = local.f(s) h = Shape(f) y = Gather(h, two)
    }}
    <domain: "local", opset_import: ["" : 10]> f (x) => (y) {{ y = {inside} }}
"""


@pytest.mark.parametrize(
    ("cut", "inside"),
    [("Slice(x, zero, two, two)", "Elu(x)"), ("Elu(x)", "Slice(x, zero, two, two)")],
)
def test_a_dimension_that_a_slice_cuts_is_another_one(cut: str, inside: str) -> None:
    text = SLICED.format(cut=cut, inside=inside)
    if "two" in inside:
        made = "zero = Constant<value = int64[1] {0}>() two = Constant<value = int64[1] {2}>()"
        text = text.replace("{ y = Slice", "{ " + made + " y = Slice")
    before = model(text, opset=10)
    _, report = Pipeline(parse("fold-known-values,rebuild-shape-values"), check="off")(before)
    assert report.after == report.before


def test_a_slice_of_opset_10_whose_rank_is_unknown() -> None:
    before = model(
        """g (float[N, K] x, int64[?] shape) => (float[?, ?] y)
        <int64[1] zero = {0}, int64[1] two = {2}> {
            r = Reshape(x, shape) y = Slice(r, zero, two, zero)
        }""",
        opset=10,
    )
    _, report = Pipeline(parse("lossless"), check="off")(before)
    assert not report.warnings


def test_a_dimension_that_may_be_0_beside_1_adds_something() -> None:
    before = model("""g (float[2, K] x) => (float[?, ?] y)
    <int64[1] last = {1}, int64[1] one = {1}> {
        s = Shape(x) k = Gather(s, last) less = Sub(k, one) y = Expand(x, less)
    }""")
    _, report = Pipeline(parse("simplify-shape-inputs"), check="off")(before)
    assert not report.changed


def test_a_backward_slice_begins_inside_the_axis() -> None:
    before = model("""g (float[3, 2] z, int64[1] axes) => (int64[2] y)
    <int64[1] axes = {-1}, float[3, 2] c = {1, 2, 3, 4, 5, 6}, int64[1] far = {-9},
     int64[1] near = {-2}, int64[1] axis = {0}, int64[1] last = {-1}> {
        r = ReduceMean(z, axes) x = Div(r, c) a = Slice(x, near, far, axis, near)
        s = Slice(a, near, far, axis, last) y = Shape(s)
    }""")
    assert_rewrites(before, FoldKnownValues(), [])


@pytest.mark.parametrize("where", ["main", "function"])
def test_an_old_if_has_the_shape_of_the_branch_it_takes(where: str) -> None:
    """ONNX allows no other before opset 11, and infers the first; onnxruntime takes both."""
    choice = """t = If(c) <
        then_branch = a () => (float[?] p) { p = Constant<value = float[2] {1, 2}>() },
        else_branch = b () => (float[?] q) { q = Identity(x) }
    >"""
    body, functions = f"{choice} y = Shape(t)", ""
    if where == "function":
        body = "t = local.choose(c, x) y = Shape(t)"
        functions = f"""<domain: "local", opset_import: ["": 9]>
        choose (c, x) => (t) {{ {choice} }}"""
    before = model(f"g (bool c, float[K] x) => (int64[1] y) {{ {body} }} {functions}", opset=9)
    assert_declines(before, FoldKnownValues())


def test_a_scalar_of_constants_is_no_vector() -> None:
    before = model("g (float[N] x) => (float[1] y) <bool c = {1}, int64[1] s = {1}> {"
                   "v = Cast<to = 1>(c) y = Reshape(v, s) }")  # fmt: skip
    assert_declines(before, LiftScalars())


def test_only_what_is_empty_fits_into_half_its_size() -> None:
    before = model("""g (float[N, 3] x) => (float[?, ?] y)
    <float[3, 2] w = {1, 1, 2, 2, 3, 3}, int64[1] o = {0}, int64[1] far = {-99},
     int64[2] shape = {0, 1}> {
        m = MatMul(x, w) s = Slice(m, o, far, o) y = Reshape(s, shape)
    }""")
    assert_declines(before, MergeDuplicateChannels())


def test_channels_that_are_gone_are_no_longer_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The second pass asks for shapes that the first one changed, and crashed on the old ones."""
    caplog.set_level(logging.INFO)
    rng = np.random.default_rng(0)
    conv, product = rng.normal(size=(16, 3, 1, 1)), rng.normal(size=(16, 5))
    conv[1], product[:8] = conv[0], 0
    conv[9] = conv[8]
    arrays = {"w": conv.astype(np.float32), "v": product.astype(np.float32)}
    before = holding(model("""g (float[N, 3, 4, 4] x) => (float[N, 5] y)
    <float[16, 3, 1, 1] w, float[16, 5] v, int64[2] s = {0, -1}> {
        a = Conv(x, w) p = GlobalAveragePool(a) r = Reshape(p, s) y = MatMul(r, v)
    }"""), **arrays)  # fmt: skip
    steps = parse("drop-dead-channels{align=bytes},merge-duplicate-channels{align=bytes}")
    after, _ = Pipeline(steps, rounds=1)(before)
    assert "crashed" not in caplog.text
    assert max(t.shape for t in after.constants() if t.name != "s") == (7, 5)


@pytest.mark.parametrize("body", ["y = Gemm(s, w)", "y = MatMul(s, w)"])
def test_a_layer_without_outputs_has_no_channels(body: str) -> None:
    before = model(f"""g (float[4, 3] x) => (float[?, ?] y)
    <float[3, 0] w = {{}}, int64[1] o = {{0}}, int64[1] two = {{2}}> {{
        s = Slice(x, o, two, o) {body}
    }}""")
    assert_declines(before, DropDeadChannels())


def test_a_gemm_adds_no_more_rows_than_it_has() -> None:
    before = model("""g (float[N, 2] x) => (float[?, 1] y)
    <float[2, 1] w = {1, 2}, float[2, 1] c = {3, 4}, float[1] a = {5}, float[1] b = {6}> {
        p = MatMul(x, w) s = Add(p, c) y = BatchNormalization(s, a, b, b, a)
    }""")
    assert_declines(fix_batch(before, 1), FuseAffine(), "more rows than the product")
    assert_rewrites(fix_batch(before, 2), FuseAffine(), ["Gemm"])


def fix_batch(of: Model, size: int) -> Model:
    made = of.copy()
    fix_input_shapes(made, {"x": (size, 2)})
    return made


def test_no_activation_is_composed_beside_a_sequence_map() -> None:
    before = model("""g (float[N] x, seq(float[N]) s) => (seq(float[N]) t) {
        t = SequenceMap(s) <body = b (float[N] q) => (float[N] z) {
            three = Constant<value = float {3}>() six = Constant<value = float {6}>()
            zero = Constant<value = float {0}>() a = Add(q, three) c = Clip(a, zero, six)
            m = Mul(q, c) z = Div(m, six)
        }>
    }""")
    assert_declines(before, ComposeActivations(), "onnxruntime takes none")


def test_what_must_not_be_joined_has_no_channels() -> None:
    """Where a part is empty, onnxruntime takes other sizes, too."""
    before = model("""g (float[2, 3] x, float[0, 4] e) => (float[?, ?] y)
    <float[3, 4] w = {1, 0, 2, 3, 4, 0, 5, 6, 7, 0, 8, 9}, float[0, 4] c = {},
     int64[1] o = {0}> {
        m = MatMul(x, w) s = Slice(m, o, o, o) t = Concat<axis = 1>(e, c)
        y = Concat<axis = 0>(t, s)
    }""")
    assert_declines(before, DropDeadChannels())


def test_what_two_branches_call_by_one_name_are_two_tensors() -> None:
    """The axes of the first branch are not the number of the second."""
    before = model("""g (bool c, float[K] x) => (float[?] y)
    <int64[1] zero = {0}, int64[1] two = {2}> {
        y = If(c) <
            then_branch = a () => (float[?] p) {
                w = Constant<value = int64[1] {0}>() p = Slice(x, zero, two, w)
            },
            else_branch = b () => (float[?] q) {
                w = Constant<value = float {1}>() q = Add(x, w)
            }
        >
    }""", opset=10)  # fmt: skip
    assert_declines(before, FoldKnownValues())


def test_constants_that_stay_nodes_are_weighed_as_nodes() -> None:
    """Before IR version 4 a new constant is a node, which takes more bytes than an initializer."""
    before = model("""g (float t, float[1, 2] x) => (float[1, 2] y) <float t = {-1}> {
        a = Add(x, t) w = Constant<value = float[2, 2] {0.25, 0.5, -0.75, 0}>() y = MatMul(a, w)
    }""", 26, ir=3)  # fmt: skip
    assert not onnxslim.run(before, check="off").report.warnings


@pytest.mark.parametrize("operator", ["AveragePool", "LpPool", "MaxPool"])
@pytest.mark.parametrize(
    ("opset", "kernel", "size"), [(20, 1, None), (20, 2, 3), (22, 1, 3), (22, 2, 3)]
)
def test_windows_that_begin_behind_an_image(
    operator: str, opset: int, kernel: int, size: int | None
) -> None:
    """Before opset 22, onnxruntime leaves them out and ONNX does not."""
    before = model(f"""g (float[1, 1, 6, 6] x) => (float[?, ?, ?, ?] y) {{
        p = {operator}<ceil_mode = 1, kernel_shape = [{kernel}, {kernel}], strides = [2, 2]>(x)
        y = Neg(p) }}""", opset)  # fmt: skip
    found = shapes.infer(before).dims(before.graph.nodes[0].outputs[0])
    assert found is not None
    assert found[2] == size or (size is None and not isinstance(found[2], int))


def test_names_of_what_an_earlier_pass_dropped_are_free_in_the_same_round() -> None:
    """Else the weighing of merge-affine takes longer names into account than a second run does."""
    before = model("""g (float[3, 1, 3] x0, int64[1] a, int64[1] b, float[1, 1, 1] t32,
        float[1, 1, 1] t34, float[3] t49, float[1, 1, 1] t53, float[3, 1, 1] t45)
    => (float[?, ?, ?] t54)
    <int64[1] a = {2}, int64[1] b = {2}, float[1, 1, 1] t32 = {0.25}, float[1, 1, 1] t34 = {0.75},
     float[3] t49 = {2.25, 0, -1.25}, float[1, 1, 1] t53 = {-2}> {
        t21 = ReduceMean(x0, a) t22 = Sub(x0, t21) t23 = Mul(t22, t22) t25 = ReduceMean(t23, b)
        t26 = Constant<value = float {0.5}>() t27 = Add(t25, t26) t28 = Sqrt(t27)
        t29 = Div(t22, t28) t30 = Constant<value = float[1] {-3}>() t31 = Mul(t29, t30)
        t33 = Add(t31, t32) t35 = Div(t33, t34) t46 = Mul(t35, t45) t50 = Add(t46, t49)
        p = Constant<value = float[1, 1, 1] {-0.75}>() q = Mul(t50, p) t54 = Sub(q, t53)
    }""", 20, ir=3)  # fmt: skip
    once = Pipeline(parse("lossless"))(before)[0]
    assert not Pipeline(parse("lossless"))(once)[1].changed


def test_a_number_has_no_softmax() -> None:
    before = model("""g (float[2, 1, 2] x) => (float[2, 1, 2] y)
    <float c = {1}, int64[1] a = {-1}> {
        t = Sub(c, x) e = Exp(t) s = ReduceSum(e, a) y = Div(e, s)
    }""", 20)  # fmt: skip
    assert_declines(before, ComposeSoftmax(), "one number")


def test_a_size_below_0_is_no_size() -> None:
    """ONNX infers -1 rows; nothing runs that node."""
    before = model("""g () => (int64[?] y) <int64 size = {-1}> {
        c = Constant<value = int64[1] {2}>() y = CenterCropPad(c, size)
    }""", 20)  # fmt: skip
    (dim,) = shapes.infer(before).dims(before.graph.outputs[0]) or ()
    assert not isinstance(dim, int)


def test_a_sum_over_many_axes_at_once_is_left_alone() -> None:
    """ONNX has no such CumSum, but onnxruntime runs it where there is nothing to add."""
    before = model("""g (float[0, 4] x) => (float[4, 0] y) <int64[2] axes = {0, 1}> {
        s = CumSum(x, axes) y = Transpose<perm = [1, 0]>(s)
    }""", 15)  # fmt: skip
    assert_declines(before, CancelTransposes())


@pytest.mark.parametrize(
    "outputs", ["float[?, ?] y, float[?, ?] z", "float[?, ?] z, float[?, ?] y"]
)
def test_a_graph_output_and_another_tensor_may_equal_the_same(outputs: str) -> None:
    before = model(f"""g (float[2, 3] x) => ({outputs}) <int64[2] sizes = {{3, 3}}> {{
        a = Relu(x) c = Concat<axis = -1>(a, a) y, b = Split<axis = -1>(c, sizes) z = Abs(b)
    }}""", 18)  # fmt: skip
    assert_rewrites(before, BypassConcats(), ["Relu", "Abs"])


def test_two_graph_outputs_that_equal_the_same_are_two() -> None:
    before = model("""g (float[2, 3] x) => (float[?, ?] y, float[?, ?] z)
    <int64[2] sizes = {3, 3}> {
        a = Relu(x) c = Concat<axis = -1>(a, a) y, z = Split<axis = -1>(c, sizes)
    }""", 18)  # fmt: skip
    assert_rewrites(before, BypassConcats(), ["Relu", "Identity"])
