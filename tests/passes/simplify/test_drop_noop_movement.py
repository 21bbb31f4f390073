"""Casts, reshapes and moves that change nothing, in every version of the operators."""

import numpy as np
import pytest
from ml_dtypes import bfloat16, int4

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim import Pipeline
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_noop_movement import DropNoopMovement

DROP = DropNoopMovement()


def between(
    operation: str,
    x: str = "float[2, 3, 4]",
    y: str = "",
    constants: str = "",
    opset: int = 20,
    ir: int = 9,
) -> Model:
    """Put *operation*, which computes b from a, between Relus."""
    text = f"""g ({x} x) => ({y or x} y) <{constants}> {{
        a = Relu(x) b = {operation} y = Relu(b)
    }}"""
    return model(text, opset, ir)


def drops(before: Model, others: int = 2) -> None:
    assert_rewrites(before, DROP, ["Relu"] * others)


# Cast ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [6, 9, 13, 19, 22])
def test_cast_to_the_same_type(opset: int) -> None:
    drops(between("Cast<to = 1>(a)", opset=opset))


def test_cast_to_another_type() -> None:
    assert_declines(model("g (float[N] x) => (int32[N] y) { y = Cast<to = 6>(x) }"), DROP)


def test_cast_of_an_unknown_type() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Cast<to = 1>(p) q = Neg(a) }""")
    assert_declines(before, DROP)


def test_cast_of_a_type_that_only_inference_knows() -> None:
    before = model("""g (float[N] x) => (float[N] y) {
        a = Cast<to = 7>(x) b = Cast<to = 7>(a) y = Cast<to = 1>(b)
    }""")
    assert_rewrites(before, DROP, ["Cast", "Cast"])


def test_cast_of_text() -> None:
    before = model("g (string[N] x) => (string[N] y) { a = Identity(x) y = Cast<to = 8>(a) }")
    assert_rewrites(before, DROP, ["Identity"])


@pytest.mark.parametrize(("kind", "number"), [("bfloat16", 16), ("float16", 10), ("int4", 22)])
def test_cast_of_a_narrow_type(kind: str, number: int) -> None:
    text = f"g ({kind}[N] x) => ({kind}[N] y) {{ a = Identity(x) y = Cast<to = {number}>(a) }}"
    after, _ = Pipeline((DROP,), check="off")(model(text, 21, 10))
    assert [node.op for node in after.nodes()] == ["Identity"]


def test_cast_like_the_same_type() -> None:
    before = model("g (float[N] x, float[M] l) => (float[N] y) { a = Relu(x) y = CastLike(a, l) }")
    assert_rewrites(before, DROP, ["Relu"])


def test_cast_like_another_type() -> None:
    assert_declines(
        model("g (float[N] x, int64[M] l) => (int64[N] y) { y = CastLike(x, l) }"), DROP
    )


def test_cast_like_of_unknown_types() -> None:
    before = model("""g (float[N] x, int64[M] l) => (int64[N] y) { y = local.F(x, l) }
    <domain: "local", opset_import: ["" : 20]> F (p, l) => (q) { a = CastLike(p, l) q = Neg(a) }""")
    assert_declines(before, DROP)


# Reshape and its family ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["2, 3, 4", "0, 0, 0", "-1, 3, 4", "0, -1, 4", "2, 0, -1"])
def test_reshape_to_the_same_shape(shape: str) -> None:
    drops(between("Reshape(a, s)", constants=f"int64[3] s = {{{shape}}}"))


@pytest.mark.parametrize("shape", ["0, 0", "0, -1", "-1, 0"])
def test_reshape_of_unknown_dimensions_to_themselves(shape: str) -> None:
    drops(between("Reshape(a, s)", "float[M, N]", constants=f"int64[2] s = {{{shape}}}"))


def test_reshape_to_its_own_shape() -> None:
    before = model("""g (float[M, N] x) => (float[M, N] y) {
        a = Relu(x) s = Shape(a) b = Reshape(a, s) y = Relu(b)
    }""")
    assert_rewrites(before, DROP, ["Relu", "Relu"])


def test_reshape_to_the_shape_of_something_else() -> None:
    before = model("""g (float[M, N] x, float[M, N] z) => (float[P, Q] y) {
        a = Relu(x) s = Shape(z) b = Reshape(a, s) y = Relu(b)
    }""")
    assert_declines(before, DROP)


def test_reshape_before_opset_5() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { a = Relu(x) y = Reshape<shape = [2, 3]>(a) }"
    after, _ = Pipeline((DROP,), check="off")(model(text, 1))
    assert [node.op for node in after.nodes()] == ["Relu"]


def test_reshape_to_another_shape() -> None:
    assert_declines(
        between("Reshape(a, s)", y="float[3, 2, 4]", constants="int64[3] s = {3, 2, 4}"), DROP
    )


def test_reshape_of_unknown_dimensions() -> None:
    before = between(
        "Reshape(a, s)", "float[M, N]", "float[P, Q]", constants="int64[2] s = {2, -1}"
    )
    assert_declines(before, DROP)


def test_reshape_to_a_shape_that_the_caller_chooses() -> None:
    before = model("""g (float[2, 3] x, int64[2] s = {2, 3}) => (float[P, Q] y) {
        a = Relu(x) b = Reshape(a, s) y = Relu(b)
    }""")
    assert_declines(before, DROP)


def test_reshape_of_an_empty_tensor() -> None:
    before = between("Reshape<allowzero = 1>(a, s)", "float[0, 3]", constants="int64[2] s = {0, 3}")
    drops(before)


def test_a_declared_shape_is_no_proof() -> None:
    before = model("""g (float[M, N] x, int64[2] s) => (float[2, 3] y)
    <float[2, 3] a, float[2, 3] b> {
        a = Relu(x) b = Reshape(a, s) y = Relu(b)
    }""")
    assert_declines(before, DROP)


@pytest.mark.parametrize("axis", [1, -1])
def test_flatten_of_a_matrix(axis: int) -> None:
    drops(between(f"Flatten<axis = {axis}>(a)", "float[2, 3]"))


def test_flatten_of_a_tensor() -> None:
    assert_declines(between("Flatten(a)", y="float[2, 12]"), DROP)


def test_squeeze_of_nothing() -> None:
    drops(between("Squeeze(a)"))


def test_squeeze_of_a_dimension() -> None:
    assert_declines(between("Squeeze(a)", "float[2, 1]", "float[2]"), DROP)


def test_expand_to_the_same_shape() -> None:
    drops(between("Expand(a, s)", constants="int64[3] s = {2, 1, 4}"))


def test_expand_to_ones_only() -> None:
    drops(between("Expand(a, s)", constants="int64[1] s = {1}"))


def test_expand_to_another_shape() -> None:
    assert_declines(
        between("Expand(a, s)", "float[1, 3]", "float[2, 3]", "int64[2] s = {2, 1}"), DROP
    )


def test_tile_once() -> None:
    drops(between("Tile(a, r)", constants="int64[3] r = {1, 1, 1}"))


def test_tile_twice() -> None:
    before = between("Tile(a, r)", "float[2]", "float[4]", "int64[1] r = {2}")
    assert_declines(before, DROP)


# Transpose ----------------------------------------------------------------------------------------


def test_transpose_in_order() -> None:
    drops(between("Transpose<perm = [0, 1, 2]>(a)", "float[L, M, N]"))


def test_transpose_in_order_where_no_shape_is_known() -> None:
    before = model("""g (float[M, N] x) => (float[M, N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        a = Transpose<perm = [0, 1]>(p) q = Neg(a)
    }""")
    assert_rewrites(before, DROP, ["F", "Neg"])


def test_transpose_without_perm_reverses() -> None:
    assert_declines(between("Transpose(a)", "float[3, 3]"), DROP)


def test_transpose_without_perm_of_a_vector() -> None:
    drops(between("Transpose(a)", "float[N]"))


def test_transpose_of_two_unit_dimensions() -> None:
    drops(between("Transpose<perm = [0, 2, 1, 3]>(a)", "float[N, 1, 1, 3]"))


def test_transpose_that_moves_a_unit_dimension() -> None:
    before = between("Transpose<perm = [0, 2, 1]>(a)", "float[2, 1, 3]", "float[2, 3, 1]")
    assert_declines(before, DROP)


def test_transpose_that_changes_elements_but_not_the_shape() -> None:
    assert_declines(between("Transpose<perm = [0, 2, 1]>(a)", "float[2, 3, 3]"), DROP)


def test_transpose_of_dimensions_of_one_name() -> None:
    assert_declines(between("Transpose<perm = [1, 0]>(a)", "float[N, N]"), DROP)


def test_transpose_of_unknown_rank() -> None:
    before = model("""g (float[N] x, int64[M] s) => (float y) {
        a = Reshape(x, s) b = Transpose(a) y = ReduceSum<keepdims = 0>(b)
    }""")
    assert_declines(before, DROP)


def test_transpose_of_a_constant_in_a_function_by_an_attribute_of_the_call() -> None:
    before = model("""g (float[3, 3] x) => (float[3, 3] y) { y = local.F<p = [1, 0]>(x) }
    <domain: "local", opset_import: ["" : 20]> F <p> (a) => (b) {
        c = Constant<value = float[3, 3] {1, 2, 3, 4, 5, 6, 7, 8, 9}>()
        t = Transpose<perm: ints = @p>(c)
        b = Add(a, t)
    }""")
    assert_declines(before, DROP, "set by the caller of the function")


# Pad ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("opset", [11, 20])
def test_pad_by_nothing(mode: str, opset: int) -> None:
    operation, constants = f'Pad<mode = "{mode}">(a, p)', "int64[4] p = {0, 0, 0, 0}"
    drops(between(operation, "float[M, N]", constants=constants, opset=opset))


def test_pad_by_nothing_as_an_attribute() -> None:
    drops(between("Pad<pads = [0, 0, 0, 0]>(a)", "float[M, N]", opset=10))


def test_pad_by_nothing_as_an_attribute_of_the_first_version() -> None:
    before = between("Pad<paddings = [0, 0, 0, 0]>(a)", "float[M, N]", opset=1)
    after, _ = Pipeline((DROP,), check="off")(before)  # onnxruntime has no such Pad
    assert [node.op for node in after.nodes()] == ["Relu", "Relu"]


def test_pad_by_nothing_along_some_axes() -> None:
    constants = "int64[2] p = {0, 0}, float v = {1}, int64[1] d = {1}"
    drops(between("Pad(a, p, v, d)", "float[M, N]", constants=constants))


@pytest.mark.parametrize("pads", ["1, -1", "0, 1", "-1, 1", "-1, 0"])
def test_pad_by_something(pads: str) -> None:
    before = between("Pad(a, p)", "float[4]", "float[M]", f"int64[2] p = {{{pads}}}")
    assert_declines(before, DROP)


def test_pad_by_what_the_caller_chooses() -> None:
    before = model("""g (float[N] x, int64[2] p = {0, 0}) => (float[M] y) {
        a = Relu(x) b = Pad(a, p) y = Relu(b)
    }""")
    assert_declines(before, DROP)


# Slice --------------------------------------------------------------------------------------------

FAR = [2**31 - 1, 2**63 - 1, 2**31 + 7]


@pytest.mark.parametrize("end", FAR)
def test_slice_of_everything(end: int) -> None:
    constants = f"int64[1] s = {{0}}, int64[1] e = {{{end}}}, int64[1] d = {{1}}"
    drops(between("Slice(a, s, e, d)", "float[M, N]", constants=constants))


@pytest.mark.parametrize("opset", [10, 13])
def test_slice_of_everything_where_no_shape_is_known(opset: int) -> None:
    before = model(
        f"""g (float[M, N] x) => (float[M, N] y) {{ y = local.F(x) }}
    <domain: "local", opset_import: ["" : {opset}]> F (p) => (q) {{
        s = Constant<value = int64[1] {{0}}>() e = Constant<value = int64[1] {{{FAR[0]}}}>()
        a = Slice(p, s, e) q = Relu(a)
    }}""",
        opset,
    )
    assert_rewrites(before, DROP, ["F", "Relu"])


@pytest.mark.parametrize(("start", "end"), [(1, FAR[0]), (0, FAR[0] - 1), (-1, FAR[0])])
def test_slice_of_a_part_where_no_shape_is_known(start: int, end: int) -> None:
    before = model(f"""g (float[M, N] x) => (float[P, Q] y) {{ y = local.F(x) }}
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {{
        s = Constant<value = int64[1] {{{start}}}>() e = Constant<value = int64[1] {{{end}}}>()
        a = Slice(p, s, e) q = Relu(a)
    }}""")
    assert_declines(before, DROP)


@pytest.mark.parametrize("read", ["s", "e"])
def test_slice_by_bounds_of_the_caller_where_no_shape_is_known(read: str) -> None:
    known = "e" if read == "s" else "s"
    before = model(f"""g (float[M, N] x, int64[1] {read}) => (float[P, Q] y) {{
        y = local.F(x, {read})
    }}
    <domain: "local", opset_import: ["" : 20]> F (p, {read}) => (q) {{
        {known} = Constant<value = int64[1] {{{FAR[0] if known == "e" else 0}}}>()
        a = Slice(p, s, e) q = Relu(a)
    }}""")
    assert_declines(before, DROP)


def test_slice_of_everything_in_32_bits() -> None:
    constants = f"int32[1] s = {{0}}, int32[1] e = {{{2**31 - 1}}}, int32[1] d = {{1}}"
    drops(between("Slice(a, s, e, d)", "float[M, N]", constants=constants))


def test_slice_of_everything_in_steps_of_one() -> None:
    constants = f"int64[1] s={{0}}, int64[1] e={{{2**63 - 1}}}, int64[1] d={{-1}}, int64[1] t={{1}}"
    drops(between("Slice(a, s, e, d, t)", "float[M, N]", constants=constants))


def test_slice_of_everything_by_attributes() -> None:
    drops(
        between(f"Slice<starts = [0], ends = [{2**63 - 1}], axes = [1]>(a)", "float[M,N]", opset=9)
    )


@pytest.mark.parametrize(("start", "end"), [(0, 4), (-4, 4), (-9, 9)])
def test_slice_to_the_same_shape(start: int, end: int) -> None:
    constants = f"int64[1] s = {{{start}}}, int64[1] e = {{{end}}}"
    drops(between("Slice(a, s, e)", "float[4, 2]", constants=constants))


def test_slice_of_a_part_by_attributes() -> None:
    before = between(
        f"Slice<starts = [1], ends = [{FAR[0]}], axes = [1]>(a)",
        "float[M, N]",
        "float[M, P]",
        opset=9,
    )
    assert_declines(before, DROP)


def test_slice_to_the_same_shape_by_attributes() -> None:
    drops(between("Slice<starts = [-4], ends = [4]>(a)", "float[4, 2]", opset=9))


def test_slice_backwards_keeps_the_shape_but_not_the_order() -> None:
    constants = "int64[1] s={-1}, int64[1] e={-9}, int64[1] d={0}, int64[1] t={-1}"
    assert_declines(between("Slice(a, s, e, d, t)", "float[4]", constants=constants), DROP)


def test_slice_in_unknown_steps() -> None:
    before = model("""g (float[1] x, int64[1] t) => (float[M] y)
    <int64[1] s = {0}, int64[1] e = {9}, int64[1] d = {0}> {
        a = Relu(x) b = Slice(a, s, e, d, t) y = Relu(b)
    }""")
    assert_declines(before, DROP)


@pytest.mark.parametrize(("start", "end"), [(1, FAR[0]), (0, 3), (0, -1), (-2, FAR[1])])
def test_slice_of_a_part(start: int, end: int) -> None:
    constants = f"int64[1] s = {{{start}}}, int64[1] e = {{{end}}}"
    assert_declines(between("Slice(a, s, e)", "float[M, 4]", "float[N, 4]", constants), DROP)


def test_slice_to_the_known_end_of_an_unknown_dimension() -> None:
    constants = "int64[1] s = {0}, int64[1] e = {100}"
    assert_declines(between("Slice(a, s, e)", "float[M, 4]", "float[N, 4]", constants), DROP)


def test_slice_every_second() -> None:
    constants = f"int64[1] s={{0}}, int64[1] e={{{FAR[0]}}}, int64[1] d={{0}}, int64[1] t={{2}}"
    assert_declines(between("Slice(a, s, e, d, t)", "float[M]", "float[N]", constants), DROP)


# Concat, Split and other variadic operators -------------------------------------------------------


@pytest.mark.parametrize("operator", ["Concat<axis = 0>", "Max", "Min", "Sum", "Mean"])
def test_of_one_tensor(operator: str) -> None:
    drops(between(f"{operator}(a)", "float[M, N]"))


@pytest.mark.parametrize("operator", ["Max", "Min", "Sum", "Mean"])
def test_of_two_tensors(operator: str) -> None:
    assert_declines(between(f"{operator}(a, x)", "float[M, N]"), DROP)


def test_concat_of_one_tensor_of_unknown_shape() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        a = Concat<axis = 0>(p) q = Neg(a)
    }""")
    assert_rewrites(before, DROP, ["F", "Neg"])


@pytest.mark.parametrize("e", ["float[0] {}", "float[1] {1}"])
def test_concat_of_tensors_of_unknown_shape(e: str) -> None:
    before = model(f"""g (float[N] x) => (float[M] y) {{ y = local.F(x) }}
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {{
        e = Constant<value = {e}>() a = Concat<axis = 0>(p, e) q = Neg(a)
    }}""")
    assert_declines(before, DROP)


def test_concat_with_a_tensor_that_is_empty_along_the_first_axis() -> None:
    drops(between("Concat<axis = 0>(e, a)", "float[M, 3]", constants="float[0, 3] e = {}"))


@pytest.mark.parametrize("operands", ["e, a", "a, e", "e, a, e"])
def test_concat_with_an_empty_tensor(operands: str) -> None:
    drops(between(f"Concat<axis = -1>({operands})", "float[2, N]", constants="float[2, 0] e = {}"))


def test_concat_of_empty_tensors() -> None:
    before = between("Concat<axis = 0>(e, e)", "float[0]", constants="float[0] e = {}")
    assert_declines(before, DROP)


def test_concat_with_what_may_be_empty() -> None:
    before = model("""g (float[M] x, float[N] e) => (float[P] y) {
        a = Relu(x) b = Concat<axis = 0>(a, e) y = Relu(b)
    }""")
    assert_declines(before, DROP)


@pytest.mark.parametrize(
    ("operation", "opset"),
    [
        ("Split<axis = 0>(a)", 7),
        ("Split<axis = 0, split = [2]>(a)", 11),
        ("Split(a)", 13),
        ("Split<num_outputs = 1>(a)", 18),
    ],
)
def test_split_into_one(operation: str, opset: int) -> None:
    drops(between(operation, "float[2, N]", opset=opset))


def test_split_into_two() -> None:
    before = model("""g (float[4] x) => (float[2] y) {
        a = Relu(x) b, c = Split<num_outputs = 2>(a) y = Relu(b)
    }""")
    assert_declines(before, DROP)


# Resize -------------------------------------------------------------------------------------------

SCALES = "float[4] r = {1, 1, 1, 1}"
MODES = [
    'mode = "nearest"',
    'mode = "linear", coordinate_transformation_mode = "align_corners"',
    'mode = "cubic", coordinate_transformation_mode = "half_pixel"',
    'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "ceil"',
    'mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"',
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opset", [11, 13, 18, 19])
def test_resize_by_scales_of_one(mode: str, opset: int) -> None:
    constants = f"float[0] roi = {{}}, {SCALES}"
    drops(between(f"Resize<{mode}>(a, roi, r)", "float[1, M, N, 5]", "", constants, opset))


@pytest.mark.parametrize(
    ("operation", "opset"),
    [
        ("Resize(a, r)", 10),
        ('Resize<mode = "linear">(a, r)', 10),
        ("Upsample(a, r)", 9),
        ("Upsample<scales = [1.0, 1.0, 1.0, 1.0]>(a)", 8),
    ],
)
def test_resize_by_scales_of_one_in_older_versions(operation: str, opset: int) -> None:
    constants = SCALES if "r)" in operation else ""
    drops(between(operation, "float[1, M, N, 5]", constants=constants, opset=opset))


@pytest.mark.parametrize("scale", [1.2, 2.0, 0.5])
def test_resize_by_other_scales(scale: float) -> None:
    constants = f"float[0] roi = {{}}, float[4] r = {{1, 1, {scale}, 1}}"
    before = between("Resize(a, roi, r)", "float[1, 1, 2, 2]", "float[1, 1, M, 2]", constants)
    assert_declines(before, DROP)


@pytest.mark.parametrize("opset", [8, 9])
def test_upsample_by_other_scales(opset: int) -> None:
    text = "Upsample(a, r)" if opset == 9 else "Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(a)"
    constants = "float[4] r = {1, 1, 2, 2}" if opset == 9 else ""
    before = between(text, "float[1, 1, 2, 2]", "float[1, 1, 4, 4]", constants, opset)
    assert_declines(before, DROP)


@pytest.mark.parametrize("mode", ["tf_crop_and_resize", "tf_half_pixel_for_nn"])
def test_resize_in_modes_that_move_samples(mode: str) -> None:
    constants = f"float[8] roi = {{0, 0, 0.5, 0.5, 1, 1, 1, 1}}, {SCALES}"
    operation = f'Resize<coordinate_transformation_mode = "{mode}">(a, roi, r)'
    opset = 11 if "nn" in mode else 19
    before = between(operation, "float[1, 1, 4, 4]", "float[1, 1, M, N]", constants, opset)
    assert_declines(before, DROP)


@pytest.mark.parametrize("empty", ["", "roi"])
def test_resize_to_the_same_sizes(empty: str) -> None:
    constants = "float[0] roi = {}, int64[4] s = {1, 1, 3, 4}"
    drops(between(f"Resize(a, roi, {empty}, s)", "float[1, 1, 3, 4]", constants=constants))


@pytest.mark.parametrize("empty", ["", "roi"])
def test_resize_to_other_sizes(empty: str) -> None:
    operation = f"Resize(a, roi, {empty}, s)"
    constants = "float[0] roi = {}, int64[4] s = {1, 1, 4, 3}"
    before = between(operation, "float[1, 1, 3, 4]", "float[1, 1, 4, 3]", constants)
    assert_declines(before, DROP)


def test_resize_that_keeps_the_aspect_ratio() -> None:
    constants = "float[0] roi = {}, int64[4] s = {1, 1, 3, 4}"
    operation = 'Resize<keep_aspect_ratio_policy = "not_larger">(a, roi, , s)'
    assert_declines(between(operation, "float[1, 1, 3, 4]", constants=constants), DROP)


def test_resize_to_sizes_that_may_be_the_same() -> None:
    constants = "float[0] roi = {}, int64[4] s = {1, 1, 3, 4}"
    before = between("Resize(a, roi, , s)", "float[1, 1, M, 4]", "float[1, 1, 3, 4]", constants)
    assert_declines(before, DROP)


def test_resize_by_scales_that_the_caller_chooses() -> None:
    before = model("""g (float[1, 1, 2, 2] x, float[4] r) => (float[K, L, M, N] y) {
        a = Relu(x) b = Resize(a, , r) y = Relu(b)
    }""")
    assert_declines(before, DROP)


# Reductions, blocks, bounds -----------------------------------------------------------------------

REDUCTIONS = ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"]


@pytest.mark.parametrize("operator", REDUCTIONS)
def test_reduce_unit_dimensions(operator: str) -> None:
    drops(between(f"{operator}<axes = [1]>(a)", "float[2, 1, 3]", opset=11))


def test_reduce_unit_dimensions_named_by_an_input() -> None:
    drops(between("ReduceSum(a, d)", "float[2, 1, 3]", constants="int64[1] d = {1}"))


def test_reduce_no_dimension() -> None:
    drops(between("ReduceSum<noop_with_empty_axes = 1>(a)", "float[2, 3]"))


def test_reduce_all_dimensions_by_default() -> None:
    assert_declines(between("ReduceSum(a)", "float[2, 3]", "float[1, 1]"), DROP)


def test_reduce_dimensions_that_the_caller_chooses() -> None:
    before = model("""g (float[2, 3] x, int64[D] d) => (float[M, N] y) {
        a = Relu(x) b = ReduceSum(a, d) y = Relu(b)
    }""")
    assert_declines(before, DROP)


def test_reduce_away_unit_dimensions() -> None:
    before = between("ReduceMax<axes=[1], keepdims=0>(a)", "float[2, 1]", "float[2]", opset=11)
    assert_declines(before, DROP)


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"])
def test_reductions_that_compute_something_of_a_single_element(operator: str) -> None:
    assert_declines(between(f"{operator}<axes = [1]>(a)", "float[2, 1, 3]", opset=11), DROP)


@pytest.mark.parametrize("operator", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_of_one(operator: str) -> None:
    drops(between(f"{operator}<blocksize = 1>(a)", "float[1, 4, M, N]"))


def test_blocks_of_two() -> None:
    before = between("DepthToSpace<blocksize = 2>(a)", "float[1, 4, 2, 2]", "float[1, 1, 4, 4]")
    assert_declines(before, DROP)


def clip(kind: str, bounds: str = "", opset: int = 13) -> Model:
    constants = f"{kind} m = {{1}}" if "m" in bounds else ""
    text = f"""g ({kind}[N] x) => ({kind}[N] y) <{constants}> {{
        a = Identity(x) b = Clip(a{bounds}) y = Identity(b)
    }}"""
    return model(text, opset)


def test_clip_of_integers_without_bounds() -> None:
    assert_rewrites(clip("int32", opset=12), DROP, ["Identity", "Identity"])


@pytest.mark.parametrize("opset", [6, 11, 13])
def test_clip_of_floats_without_bounds_makes_infinity_finite(opset: int) -> None:
    assert_declines(clip("float", opset=opset), DROP)


def test_clip_of_an_unknown_type() -> None:
    before = model("""g (int32[N] x) => (int32[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Clip(p) q = Neg(a) }""")
    assert_declines(before, DROP)


@pytest.mark.parametrize("bounds", [", m", ", , m"])
def test_clip_with_a_bound(bounds: str) -> None:
    assert_declines(clip("int32", bounds), DROP)


# Everywhere ---------------------------------------------------------------------------------------


def test_inside_a_branch() -> None:
    before = model("""g (bool c, float[2, 3] x) => (float[2, 3] y) <int64[2] s = {2, -1}> {
        y = If (c) <
            then_branch = t () => (float[2, 3] u) { p = Reshape(x, s) u = Abs(p) },
            else_branch = e () => (float[2, 3] v) { v = Neg(x) }
        >
    }""")
    assert_rewrites(before, DROP, ["If", "Abs", "Neg"])


def test_the_state_of_a_loop_may_change_its_shape() -> None:
    before = model("""g (float[1] x) => (float[N] y) <int64 n = {3}, bool t = {1}> {
        y = Loop (n, t, x) <body = b (int64 i, bool go, float[1] v) => (bool go2, float[M] w) {
            go2 = Identity(go) d = Concat<axis = 0>(v, v) m = Squeeze(v) k = Shape(v)
            e = Expand(d, k) w = Relu(e)
        }>
    }""")
    assert_declines(before, DROP)


def test_weights_of_four_bits() -> None:
    before = holding(
        model(
            """g (int32[2] x) => (int32[2] y) {
                a = Cast<to = 22>(w) b = Cast<to = 6>(a) y = Add(x, b)
            }""",
            21,
            10,
        ),
        w=np.array([1, -2], int4),
    )
    assert_rewrites(before, DROP, ["Cast", "Add"])


def test_weights_in_bfloat16() -> None:
    before = holding(
        model("""g (float[2] x) => (float[2] y) {
            a = Cast<to = 16>(w) b = Cast<to=1>(a) y = Add(x, b)
        }"""),
        w=np.array([1, -2], bfloat16),
    )
    assert_rewrites(before, DROP, ["Cast", "Add"])


# Pooling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 12, 22])
@pytest.mark.parametrize(
    "pool",
    [
        "AveragePool<kernel_shape = [1, 1]>",
        "MaxPool<kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0]>",
    ],
)
def test_pooling_of_single_elements(pool: str, opset: int) -> None:
    drops(between(f"{pool}(a)", "float[N, 3, 4, 5]", opset=opset))


@pytest.mark.parametrize(
    "pool",
    [
        "AveragePool<kernel_shape = [1, 2]>",
        "MaxPool<kernel_shape = [1, 1], strides = [2, 1]>",
        "AveragePool<kernel_shape = [1, 1], pads = [0, 0, 0, 1], count_include_pad = 1>",
    ],
)
def test_pooling_that_changes_something(pool: str) -> None:
    assert_declines(between(f"{pool}(a)", "float[N, 3, 4, 5]", "float[N, 3, K, L]"), DROP)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "GlobalMaxPool"])
def test_pooling_of_a_single_element(pool: str) -> None:
    drops(between(f"{pool}(a)", "float[N, 3, 1, 1]"))


def test_pooling_of_the_whole_space() -> None:
    before = between("GlobalAveragePool(a)", "float[N, 3, 1, 2]", "float[N, 3, 1, 1]")
    assert_declines(before, DROP)
