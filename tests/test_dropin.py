"""Calls written for the OnnxSlim package, and what its users read."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxslim
from kit import model
from onnxslim import dropin, utils
from onnxslim.data import input_specs
from onnxslim.errors import BrokenModel, DataError, InputError, SpecError
from onnxslim.pipeline import Check
from onnxslim.recipes import RECIPES
from onnxslim.registry import all_passes

TEXT = "main (float[N] x) => (float[N] y) { i = Identity(x) y = Relu(i) }"
FOLDED = """main (float[4] x) => (float[4] y)
<float[4] a = {1,2,3,4}, float[4] b = {5,6,7,8}>
{ c = Add(a, b) y = Mul(x, c) }"""
NAMED = """main (float[N, 4] x) => (float[N, 4] y, float[N, 4] z)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
{ [first] m = MatMul(x, w) [second] y = Relu(m) [third] z = Relu(x) }"""


def ops(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


# Calls --------------------------------------------------------------------------------------------


def test_a_slimmed_proto_can_be_saved(tmp_path: Path) -> None:
    slimmed = onnxslim.slim(model(TEXT).proto())
    onnx.save(slimmed, tmp_path / "out.onnx")
    assert ops(onnx.load(tmp_path / "out.onnx")) == ["Relu"]


def test_the_output_may_be_called_output_model(tmp_path: Path) -> None:
    onnxslim.slim(model(TEXT).proto(), output_model=tmp_path / "out.onnx")
    assert ops(onnx.load(tmp_path / "out.onnx")) == ["Relu"]


def test_two_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="output_model"):
        onnxslim.slim(model(TEXT).proto(), tmp_path / "a", output_model=tmp_path / "b")


def test_several_models_are_refused() -> None:
    with pytest.raises(InputError, match="one model"):
        onnxslim.slim([model(TEXT)])  # type: ignore[arg-type]


def test_input_shapes_may_be_texts() -> None:
    (x,) = onnxslim.slim(model(TEXT), input_shapes=["x:7"]).graph.input
    assert x.type.tensor_type.shape.dim[0].dim_value == 7


@pytest.mark.parametrize("text", ["x", "x:", "x=7", ":7", "x:a"])
def test_unreadable_input_shapes_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        onnxslim.slim(model(TEXT), input_shapes=[text])


@pytest.mark.parametrize("name", ["fold-constants", "fold_constants", "constant_folding"])
def test_a_pass_is_left_out_by_our_name_or_theirs(name: str) -> None:
    assert ops(onnxslim.slim(model(FOLDED), skip_optimizations=[name])) == ["Add", "Mul"]


def test_a_fusion_pattern_is_left_out() -> None:
    steps = dropin.without(onnxslim.parse("lossless"), ["FusionGemm"])
    assert "fuse-matmul-add" not in [step.name for step in steps]


def test_graph_fusion_is_the_group_of_fusions() -> None:
    kept = dropin.without(onnxslim.parse("lossless"), ["graph_fusion"])
    assert not [s.name for s in kept if s.name.startswith(("fuse-", "compose-"))]


def test_an_unknown_name_to_leave_out_is_refused() -> None:
    with pytest.raises(SpecError, match="FusionGemm"):
        onnxslim.slim(model(TEXT), skip_fusion_patterns=["FusionGem"])


def test_a_pattern_without_counterpart_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="EliminationReshapeAs"):
        onnxslim.slim(model(TEXT), skip_fusion_patterns=["EliminationReshapeAs"])


def test_counterparts_are_lossless_passes() -> None:
    named = {name for names in dropin.COUNTERPARTS.values() for name in names}
    assert named <= set(all_passes()) & set(RECIPES["lossless"].spec.split(","))


def test_no_shape_infer_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="no_shape_infer"):
        onnxslim.slim(model(TEXT), no_shape_infer=True)


def test_the_size_threshold_limits_folding() -> None:
    assert ops(onnxslim.slim(model(FOLDED), size_threshold=8)) == ["Add", "Mul"]


@pytest.mark.parametrize("size", [None, 0])
def test_no_size_threshold_folds(size: int | None) -> None:
    assert ops(onnxslim.slim(model(FOLDED), size_threshold=size)) == ["Mul"]


def test_a_negative_size_threshold_is_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        onnxslim.slim(model(TEXT), size_threshold=-1)


def test_external_data_may_be_called_theirs(tmp_path: Path) -> None:
    big = model("main (float[N, 64] x) => (float[N, 64] y) { y = Relu(x) }").proto()
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    big.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    big.graph.node.append(onnx.helper.make_node("MatMul", ["y", "w"], ["z"]))
    big.graph.output[0].name = "z"
    onnxslim.slim(big, tmp_path / "out.onnx", save_as_external_data=True)
    assert (tmp_path / "out.onnx.data").stat().st_size >= 64 * 64 * 4


def test_verbose_logs(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("onnxslim")
    level = logger.level
    try:
        onnxslim.slim(model(TEXT), verbose=True)
    finally:
        logger.setLevel(level)
    assert "drop-identity" in caplog.text


def test_outputs_are_cut_before_slimming() -> None:
    slimmed = onnxslim.slim(model(NAMED), outputs=["z"])
    assert [output.name for output in slimmed.graph.output] == ["z"]


def test_inputs_are_cut_before_slimming() -> None:
    slimmed = onnxslim.slim(model(NAMED), inputs=["m", "x"])
    assert [i.name for i in slimmed.graph.input] == ["m", "x"]


def test_the_type_of_an_output_is_left_out() -> None:
    with pytest.warns(UserWarning, match="z keeps the type"):
        slimmed = onnxslim.slim(model(NAMED), outputs=["z:fp16"])
    assert slimmed.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_floats_are_converted() -> None:
    slimmed = onnxslim.slim(model(NAMED), dtype="fp16")
    assert slimmed.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_a_cut_file_is_not_copied(tmp_path: Path) -> None:
    model(NAMED).save(tmp_path / "in.onnx")
    onnxslim.slim(tmp_path / "in.onnx", tmp_path / "out.onnx", outputs=["z"])
    assert len(onnx.load(tmp_path / "out.onnx").graph.output) == 1


def test_the_model_that_is_cut_is_left_alone() -> None:
    whole = model(NAMED)
    before = whole.to_bytes()
    onnxslim.slim(whole, outputs=["z"], dtype="fp16")
    assert whole.to_bytes() == before


# Checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "check", "compared"),
    [(None, "end", True), (True, "off", True), (False, "end", False), (None, "off", False)],
)
def test_model_check_switches_the_comparison(
    asked: bool | None, check: Check, compared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object) -> None:
        raise BrokenModel("it differs")

    monkeypatch.setattr("onnxslim.pipeline.check_structure", differ)
    slimmed = onnxslim.slim(model(TEXT), model_check=asked, check=check)
    assert ops(slimmed) == (["Identity", "Relu"] if compared else ["Relu"])


def test_model_check_inputs_give_shapes() -> None:
    specs = input_specs(model(NAMED).proto())
    assert {feed["x"].shape for feed in dropin.feeds(["x:3,4"], specs)} == {(3, 4)}


def test_model_check_inputs_give_values(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 4), 3, np.float32))
    specs = input_specs(model(NAMED).proto())
    (feed,) = dropin.feeds([f"x:{tmp_path / 'x.npy'}"], specs)
    assert (feed["x"] == 3).all()


def test_dimensions_of_one_name_follow_the_given_one() -> None:
    two = model("main (float[N] a, float[N, M] b) => (float[N] c) { c = Relu(a) }")
    feeds = dropin.feeds(["a:7"], input_specs(two.proto()))
    assert {feed["b"].shape[0] for feed in feeds} == {7}


def test_model_check_inputs_are_compared_on() -> None:
    assert onnxslim.run(model(TEXT), data=["x:5"]).report.validation.passed


def test_model_check_inputs_of_an_unknown_name_are_refused() -> None:
    with pytest.raises(DataError, match="'q'"):
        onnxslim.slim(model(TEXT), model_check_inputs=["q:5"])


def test_an_unreadable_array_is_refused() -> None:
    with pytest.raises(DataError, match="missing"):
        onnxslim.slim(model(TEXT), model_check_inputs=["x:missing.npy"])


# Summaries ----------------------------------------------------------------------------------------


def test_a_summary_counts_operators() -> None:
    assert utils.summarize_model(model(NAMED)).op_type_counts == {"MatMul": 1, "Relu": 2}


def test_a_summary_counts_those_of_subgraphs() -> None:
    text = """main (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) },
                  else_branch = e () => (float[2] b) { b = Neg(x) }> }"""
    assert utils.summarize_model(model(text)).op_type_counts == {"If": 1, "Neg": 2}


def test_a_summary_knows_inputs_and_outputs() -> None:
    info = utils.summarize_model(model(NAMED))
    (x,) = info.input_info
    assert (x.name, x.dtype, x.shape) == ("x", np.dtype(np.float32), ("N", 4))
    assert info.input_maps == {"x": x}
    assert list(info.output_maps) == ["y", "z"]


def test_an_unknown_dimension_is_a_question_mark() -> None:
    text = "main (float[?, 3] x) => (float[?, 3] y) { y = Relu(x) }"
    assert utils.summarize_model(model(text)).input_info[0].shape == ("?", 3)


def test_a_summary_infers_what_nodes_compute() -> None:
    node = utils.summarize_model(model(NAMED)).op_info["first"]
    assert (node.op, node.outputs[0].shape) == ("MatMul", ("N", 4))


def test_a_summary_weighs_the_weights() -> None:
    assert utils.summarize_model(model(NAMED)).model_size == 64


def test_a_summary_knows_versions() -> None:
    info = utils.summarize_model(model(NAMED, opset=17, ir=8), tag="mine")
    assert (info.tag, info.op_set, info.ir_version) == ("mine", "17", "8")


def test_a_summary_of_a_file_is_called_after_it(tmp_path: Path) -> None:
    model(NAMED).save(tmp_path / "net.onnx")
    assert utils.summarize_model(str(tmp_path / "net.onnx"), "other").tag == "net.onnx"


def test_summaries_are_printed_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    info = utils.summarize_model(model(NAMED), "left[b]")
    slimmed = utils.summarize_model(model(TEXT), "right")
    utils.print_model_info_as_table([info, slimmed], 1.5)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("left[b]", "right", "MatMul", "float32[N, 4]", "1.50"))


def test_one_summary_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    utils.print_model_info_as_table(utils.summarize_model(model(NAMED)))
    assert "MatMul" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.00 B"), (1536, "1.50 KB"), (5 << 40, "5120.00 GB")]
)
def test_bytes_have_units(size: int, text: str) -> None:
    assert utils.format_bytes(size) == text


def test_inspect_prints_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    onnxslim.slim(model(TEXT), inspect=True)
    assert "Identity" in capsys.readouterr().out


def test_nodes_are_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnxslim.slim(model(TEXT), dump_to_disk=True)
    with (tmp_path / "OnnxModel_model_info.csv").open() as file:
        assert [row["OpType"] for row in csv.DictReader(file)] == ["Identity", "Relu"]
