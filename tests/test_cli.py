"""The command line, in its own process where that matters."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from kit import holding, model
from onnxslim import Model, api
from onnxslim.cli import main

TEXT = """main (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
{ i = Identity(x) m = MatMul(i, w) y = Relu(m) }"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    model(TEXT).save(path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "out.onnx"
    path.write_bytes(b"what was there before")
    return path


def test_writes_the_smaller_model_and_a_table(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), "-o", str(target)]) == 0
    assert target.stat().st_size < source.stat().st_size
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("nodes", "Identity", "parameters", "bytes", "MACs"))


def test_the_output_may_be_the_second_argument(source: Path, target: Path) -> None:
    assert main([str(source), str(target), "-q"]) == 0
    assert target.stat().st_size < source.stat().st_size


def test_the_report_has_the_documented_keys(source: Path, target: Path, tmp_path: Path) -> None:
    assert main([str(source), "-o", str(target), "-q", "--report", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert {"before", "after", "steps", "validation", "seconds", "versions"} <= set(report)
    assert set(report["after"]) == {"nodes", "ops", "parameters", "bytes", "macs"}
    assert {"feeds", "max_abs", "relative", "passed"} <= set(report["validation"])


def test_input_shapes_are_fixed(source: Path, target: Path) -> None:
    assert main([str(source), "-o", str(target), "-q", "--input-shapes", "x:3,4"]) == 0
    (x,) = Model.load(target).graph.inputs
    assert x.shape == [3, 4]


def bad_inputs(folder: Path, good: Path) -> dict[str, list[str]]:
    """Return arguments (the output is added) that cannot work."""
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("this is no model\n" * 20)
    (folder / "cut.onnx").write_bytes(good.read_bytes()[:-9])
    np.savez(folder / "rank.npz", x=np.ones((2, 3, 4, 5), np.float32))
    np.savez(folder / "width.npz", x=np.ones((2, 7), np.float32))
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"")
    np.savez(folder / "unknown.npz", z=np.ones((2, 4), np.float32))
    return {
        "missing file": [str(folder / "missing.onnx")],
        "empty file": [str(folder / "empty.onnx")],
        "text file": [str(folder / "text.onnx")],
        "truncated model": [str(folder / "cut.onnx")],
        "directory": [str(folder)],
        "unknown pass": [str(good), "-p", "no-such-pass"],
        "unknown option of a pass": [str(good), "-p", "fold-constants{colour=1}"],
        "value of the wrong type": [str(good), "-p", "fold-constants{max_bytes=much}"],
        "unknown option": [str(good), "--no-such-option"],
        "data of another rank": [str(good), "-c", str(folder / "rank.npz")],
        "data of another width": [str(good), "-c", str(folder / "width.npz")],
        "data for an unknown input": [str(good), "-c", str(folder / "unknown.npz")],
        "module that is not there": [str(good), "-c", "no_such_module_here:feeds"],
        "options of images for arrays": [str(good), "-c", str(folder / "rank.npz"), "--mean", "1"],
        "options of images without data": [str(good), "--crop", "2"],
        "images for a matrix": [str(good), "-c", str(folder / "images")],
        "missing data": [str(good), "-c", str(folder / "missing.npz")],
        "unknown input shape": [str(good), "--input-shapes", "q:1,4"],
        "contradicting input shape": [str(good), "--input-shapes", "x:1,5"],
        "unreadable input shape": [str(good), "--input-shapes", "x=1"],
        "unknown pass to leave out": [str(good), "--skip-optimizations", "fold-constant"],
        "unknown pattern to leave out": [str(good), "--skip-fusion-patterns", "FusionGem"],
        "inputs to check given twice": [
            *(str(good), "-c", str(folder / "width.npz"), "--model-check-inputs", "x:2,4")
        ],
        "nodes to disk without inspecting": [str(good), "--dump-to-disk"],
        "inspecting with an output": [str(good), "--inspect"],
    }


BAD = [
    *("missing file", "empty file", "text file", "truncated model", "directory", "unknown pass"),
    *("unknown option of a pass", "value of the wrong type", "unknown option"),
    *("data of another rank", "data of another width", "data for an unknown input"),
    *("module that is not there", "options of images for arrays", "options of images without data"),
    *("images for a matrix", "missing data", "unknown input shape", "contradicting input shape"),
    *("unreadable input shape", "unknown pass to leave out", "unknown pattern to leave out"),
    *("inputs to check given twice", "nodes to disk without inspecting"),
    "inspecting with an output",
]


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_status_2(
    what: str, source: Path, target: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = target.read_bytes()
    status = main([*bad_inputs(tmp_path, source)[what], "-o", str(target)])
    lines = capfd.readouterr().err.splitlines()
    assert status == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("onnxslim: error: ")
    assert target.read_bytes() == before


@pytest.mark.parametrize("output", ["nowhere/out.onnx", "."])
def test_unwritable_output_is_one_line_and_status_2(
    output: str, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), "-o", str(tmp_path / output)]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_no_output_is_asked_for(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(source)]) == 2
    assert "onnxslim IN -o OUT" in capfd.readouterr().err


def test_a_killed_run_leaves_the_output_alone(tmp_path: Path, target: Path) -> None:
    before = target.read_bytes()
    big = Path(__file__).parents[1] / "models" / "shape_heavy" / "model.onnx"
    command = [sys.executable, "-m", "onnxslim", str(big), "-o", str(target), "-q"]
    api.run(big, check="off").save(tmp_path / "whole.onnx")
    whole = (tmp_path / "whole.onnx").read_bytes()
    for delay in (0.2, 0.5, 0.8, 1.1):
        target.write_bytes(before)
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(big.parents[2])})
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert target.read_bytes() in (before, whole)


def test_a_failure_leaves_an_external_output_alone(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.onnx"
    assert main([str(source), "-o", str(target), "-q", "--external-data"]) == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert main([str(tmp_path / "missing.onnx"), "-o", str(target), "-q"]) == 2
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_in_place(source: Path) -> None:
    copy = source.with_name("copy.onnx")
    shutil.copy(source, copy)
    assert main([str(source), "-o", str(source), "-q"]) == 0
    assert main([str(copy), "-o", str(copy.with_name("other.onnx")), "-q"]) == 0
    assert source.read_bytes() == copy.with_name("other.onnx").read_bytes()


def test_lists_every_pass(capsys: pytest.CaptureFixture[str]) -> None:
    from onnxslim.registry import all_passes

    assert main(["passes"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in all_passes())


def test_inspects_models_side_by_side(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = source.with_name("other.onnx")
    api.run(source).save(other)
    assert main(["inspect", str(source), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "in.onnx" in printed
    assert "other.onnx" in printed


def inspected(capsys: pytest.CaptureFixture[str], *paths: Path) -> str:
    assert main(["inspect", *map(str, paths)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_inspects_types_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[red] a.onnx"
    model("""main (seq(float[batch]) s, string[2] t, float[batch, 3] x)
        => (float[] c, seq(map(int64, float)) m, float[] y)
        { c = ConcatFromSequence <axis = 0> (s) y = Neg(x)
          m = ai.onnx.ml.ZipMap <classlabels_int64s = [1, 2, 3]> (x) }""").save(path)
    printed = inspected(capsys, path)
    assert "[red] a.onnx nodes 3" in printed
    assert "s: seq(float32[batch]) t: string[2] x: float32[batch,3]" in printed
    assert "m: seq(map(int64, float32[]))" in printed


def test_shapes_that_are_not_declared_are_inferred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.onnx"
    proto = model("main (float[n, 3] x) => (float y) { y = Abs(x) }").proto()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    assert "outputs y: float32[n,3]" in inspected(capsys, path)


def test_operators_that_a_model_lacks_are_dashes(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "deeper" / source.name
    other.parent.mkdir()
    model("main (float[2] x) => (float[2] y) { y = Neg(x) }").save(other)
    printed = inspected(capsys, source, other)
    assert "MatMul 1 -" in printed
    assert "Neg - 1" in printed


def test_files_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path("a/m.onnx"), Path("b/m.onnx")]
    for path in paths:
        path.parent.mkdir()
        model("main (float[2] x) => (float[2] y) { y = Neg(x) }").save(path)
    assert inspected(capsys, *paths).startswith("a/m.onnx b/m.onnx")


def test_a_list_of_values_may_follow_an_option(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "two.onnx"
    model("main (float[N] a, float[N] b) => (float[N] c) { c = Add(a, b) }").save(path)
    assert main([str(path), "-q", "--input-shapes", "a:3", "b:3", "-o", str(target)]) == 0
    assert [tensor.shape for tensor in Model.load(target).graph.inputs] == [[3], [3]]


def test_files_may_follow_a_list_of_values(source: Path, target: Path) -> None:
    assert main(["-q", "--input-shapes", "x:3,4", str(source), str(target)]) == 0
    (x,) = Model.load(target).graph.inputs
    assert x.shape == [3, 4]


@pytest.mark.parametrize("option", ["--skip-optimizations", "--skip-fusion-patterns"])
def test_passes_are_left_out(option: str, source: Path, target: Path) -> None:
    names = ["drop-identity", "dead_node_elimination", "weight_tying"]
    assert main([str(source), str(target), "-q", option, *names]) == 0
    assert "Identity" in [node.op for node in Model.load(target).nodes()]


def test_an_option_of_no_effect_is_warned_of(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(target), "--no-shape-infer"]) == 0
    assert capsys.readouterr().err.startswith("onnxslim: warning: no_shape_infer")


def test_what_is_compared_on_may_be_given_by_shape(
    source: Path, target: Path, tmp_path: Path
) -> None:
    report = tmp_path / "r.json"
    asked = ["--model-check", "--model-check-inputs", "x:3,4", "--report", str(report)]
    assert main([str(source), str(target), "-q", *asked]) == 0
    assert json.loads(report.read_text())["validation"]["passed"] is True


def test_what_is_compared_on_may_be_images(tmp_path: Path, target: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    source = tmp_path / "image.onnx"
    text = "main (float[N, 3, 5, 5] x) => (float[N, 3, 5, 5] y) { i = Identity(x) y = Abs(i) }"
    model(text).save(source)
    data = ["-c", str(tmp_path), "--resize", "6", "--mean", "0.5", "--color", "bgr"]
    assert main([str(source), str(target), "-q", *data, "--report", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["validation"]["feeds"] == 1


def test_the_size_threshold_limits_folding(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "fold.onnx"
    model("""main (float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] b = {3,4}>
    { c = Add(a, b) y = Mul(x, c) }""").save(path)
    assert main([str(path), str(target), "-q", "--size-threshold", "4"]) == 0
    assert [node.op for node in Model.load(target).nodes()] == ["Add", "Mul"]


def test_weights_go_beside_the_model_by_either_name(source: Path, target: Path) -> None:
    assert main([str(source), str(target), "-q", "--save-as-external-data"]) == 0


def test_ends_and_floats_are_changed_first(source: Path, target: Path) -> None:
    wanted = ["--inputs", "i", "--outputs", "m", "--dtype", "fp16"]
    assert main([str(source), str(target), "-q", *wanted]) == 0
    (first,) = Model.load(target).graph.inputs
    assert (first.name, first.dtype) == ("i", np.float16)


def test_the_flag_inspects_models(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    assert main(["--inspect", *[str(source)] * 3, "--dump-to-disk"]) == 0
    assert "MatMul" in capsys.readouterr().out
    assert "MatMul" in (source.parent / "in.onnx_model_info.csv").read_text()


def test_too_many_files_are_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(source), "a.onnx", "b.onnx"]) == 2
    assert "b.onnx" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = target.read_bytes()
    assert main([str(source), str(target), "--dry-run"]) == 0
    assert target.read_bytes() == before
    assert "Identity" in capsys.readouterr().out


def test_a_dry_run_needs_no_output(source: Path) -> None:
    assert main([str(source), "--dry-run", "-q"]) == 0


def test_explains_what_was_done(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(target), "--explain"]) == 0
    assert "drop-identity (exact): 1 changes" in capsys.readouterr().out


def test_explains_what_was_left_alone_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.onnx"
    model("""main (float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] b = {3,4}>
    { [sum] c = Add(a, b) y = Mul(x, c) }""").save(path)
    assert main([str(path), "--dry-run", "--explain", "-p", "fold-constants{max_bytes=4}"]) == 0
    assert "left alone sum: its value would take more than 4 bytes" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("onnxslim ")


def test_two_runs_give_identical_bytes(source: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert main([str(source), "-o", str(tmp_path / name), "-q"]) == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "kept"),
    [((), False), (("--max-error", "1"), True), (("--min-sqnr", "5"), True)],
)
def test_lossy_passes_go_as_far_as_allowed(
    options: tuple[str, ...], kept: bool, tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "in.onnx"
    values = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    text = "g (float[3, 64] x) => (float[3, 64] y) { y = MatMul(x, w) }"
    holding(model(text), w=values).save(source)
    spec = "quantize-weights{bits=2}"
    assert main([str(source), "-o", str(target), "-q", "-p", spec, *options]) == 0
    assert (target.stat().st_size < source.stat().st_size / 2) == kept


def test_a_target_opset_is_reached(source: Path, target: Path) -> None:
    main([str(source), "-o", str(target), "--target-opset", "21", "-q"])
    assert Model.load(target).opset == 21


def test_a_target_opset_out_of_reach_is_bad_input(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), "-o", str(target), "--target-opset", "10"]) == 2
    assert "as far as a model can go back" in capsys.readouterr().err


def test_reasons_that_differ_in_numbers_are_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """g (float[4, 4] x) => (float[64, 4, 4] y, float[99, 4, 4] z)
    <int64[3] a = {64, 4, 4}, int64[3] b = {99, 4, 4}, float one = {1}> {
        p = Expand(one, a) q = Expand(one, b) y = Mul(p, x) z = Mul(q, x) }"""
    model(text).save(tmp_path / "in.onnx")
    main([str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx"), "-p", "fold-constants"])
    assert re.search(r"2 x fold-constants: the file would grow by [\d,]+ to [\d,]+ bytes",
                     capsys.readouterr().out)  # fmt: skip
