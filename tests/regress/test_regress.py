"""References are recorded once; whatever moves afterwards is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import kit
from onnxslim.cli import main
from onnxslim.errors import DataError, InputError, OutputError, SpecError
from onnxslim.regress import Limits, assert_model, check, record
from onnxslim.regress.checks import size_limit

MODELS = Path(__file__).parents[2] / "models"
NET = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,3] y, int64[N] best)
<float[4,8] w1 = {…}, float[8] b1 = {…}, float[8,3] w2 = {…}>
{
    h = MatMul(x, w1)
    s = Add(h, b1)
    r = Relu(s)
    y = MatMul(r, w2)
    best = ArgMax<axis = 1, keepdims = 0>(y)
}
"""


def _net() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    text = NET
    for shape in ((4, 8), (8,), (8, 3)):
        numbers = ", ".join(f"{v:.4f}" for v in rng.normal(size=shape).reshape(-1))
        text = text.replace("{…}", "{" + numbers + "}", 1)
    return onnx.parser.parse_model(text)


@pytest.fixture(name="net")
def _saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(_net(), path)
    record(path, tmp_path / "refs", data=_data(tmp_path))
    return path


def _data(folder: Path) -> str:
    rng = np.random.default_rng(1)
    path = folder / "data.npz"
    samples = rng.normal(size=(20, 4)).astype(np.float32)
    np.savez(path, x=samples, labels=np.arange(20) % 3)
    return str(path)


def _changed(net: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(net)
    change(model)
    path = net.with_name("changed.onnx")
    onnx.save(model, path)
    return path


def _weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _scale_one(model: onnx.ModelProto) -> None:
    def change(values: np.ndarray) -> None:
        values[0, 0] *= 1.001

    _weight(model, "w1", change)


def _zero_bias(model: onnx.ModelProto) -> None:
    _weight(model, "b1", lambda values: values.fill(0))


def _drop_relu(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "s"
    del model.graph.node[2]


def _swap_columns(model: onnx.ModelProto) -> None:
    _weight(model, "w2", lambda values: values.__setitem__(slice(None), np.roll(values, 1, axis=1)))


def _swap_outputs(model: onnx.ModelProto) -> None:
    outputs = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))


def _rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"


def _other_type(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    model.graph.node[4].output[0] = "best64"
    model.graph.node.add(op_type="Cast", input=["best64"], output=["best"]).attribute.append(
        onnx.helper.make_attribute("to", onnx.TensorProto.INT32)
    )


def _grow(model: onnx.ModelProto) -> None:
    model.doc_string = "x" * 1000


def _not_a_number(model: onnx.ModelProto) -> None:
    _weight(model, "w2", lambda values: values.fill(np.nan))


def _unrunnable(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "nowhere"
    model.opset_import.add(domain="nowhere", version=1)


PLANTED = {
    "a changed weight": (_scale_one, "output y"),
    "a lost bias": (_zero_bias, "output y"),
    "a dropped node": (_drop_relu, "output y"),
    "swapped classes": (_swap_columns, "output best"),
    "swapped outputs": (_swap_outputs, "outputs"),
    "a renamed input": (_rename_input, "inputs"),
    "another type": (_other_type, "outputs"),
    "a grown file": (_grow, "bytes"),
    "values that are no numbers": (_not_a_number, "output y"),
    "an operator nobody has": (_unrunnable, "runs"),
}


def test_the_unchanged_model_passes(net: Path) -> None:
    assert check(net, net.parent / "refs").passed


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_regression_is_found(net: Path, name: str) -> None:
    change, where = PLANTED[name]
    verdict = check(_changed(net, change), net.parent / "refs")
    assert where in [finding.name for finding in verdict.findings if not finding.passed]


def test_a_slower_model_is_found(net: Path) -> None:
    def repeat(model: onnx.ModelProto) -> None:
        for index in range(300):
            model.graph.node.insert(2, onnx.helper.make_node("Tanh", ["s"], [f"t{index}"]))
        names = [f"t{index}" for index in range(300)]
        model.graph.node.insert(302, onnx.helper.make_node("Sum", names, ["total"]))
        model.graph.output.append(onnx.helper.make_tensor_value_info("total", 1, ["N", 8]))

    limits = Limits(max_size="100x", max_latency_ratio=1.5)
    verdict = check(_changed(net, repeat), net.parent / "refs", limits)
    assert not {f.name: f.passed for f in verdict.findings}["latency"]


def test_the_same_model_is_not_slower(net: Path) -> None:
    verdict = check(net, net.parent / "refs", Limits(max_latency_ratio=3))
    assert {f.name: f.passed for f in verdict.findings}["latency"]


def test_latency_needs_the_recorded_model(net: Path) -> None:
    moved = net.rename(net.with_name("moved.onnx"))
    with pytest.raises(InputError, match="--baseline"):
        check(moved, net.parent / "refs", Limits(max_latency_ratio=1.5))


def test_a_tolerance_may_be_given(net: Path) -> None:
    assert_model(_changed(net, _scale_one), net.parent / "refs", tolerance=0.01)


def test_a_metric_may_be_given(net: Path) -> None:
    assert_model(_changed(net, _scale_one), net.parent / "refs", max_drop="0%", metric="agreement")


def test_without_a_metric_labels_decide(net: Path) -> None:
    verdict = check(_changed(net, _swap_columns), net.parent / "refs", Limits(max_drop="1%"))
    assert "top1" in [finding.name for finding in verdict.findings]


def test_an_assertion_tells_what_failed(net: Path) -> None:
    with pytest.raises(AssertionError, match=r"FAIL output y: .* of scale"):
        assert_model(_changed(net, _scale_one), net.parent / "refs")


@pytest.mark.parametrize(
    ("text", "size"),
    [("500KB", 500_000), ("2MiB", 2 << 20), ("0.3x", 300), ("30%", 300), (77, 77), ("77 B", 77)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert size_limit(text, 1000) == size


def test_a_size_that_is_none() -> None:
    with pytest.raises(SpecError, match="no size"):
        size_limit("small", 1000)


# The record ---------------------------------------------------------------------------------------


def test_references_are_test_data_as_onnx_has_them(net: Path) -> None:
    folder = net.parent / "refs" / "test_data_set_3"
    tensor = onnx.TensorProto.FromString((folder / "output_1.pb").read_bytes())
    assert (tensor.name, list(tensor.dims)) == ("best", [1])


def test_labels_are_kept_with_their_samples(net: Path) -> None:
    assert np.load(net.parent / "refs" / "labels.npy").tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_recording_again_replaces(net: Path) -> None:
    record(net, net.parent / "refs", count=2)
    assert len(list((net.parent / "refs").glob("test_data_set_*"))) == 2


def test_a_folder_of_something_else_is_left_alone(net: Path) -> None:
    other = net.parent / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="no record of references"):
        record(net, other)


def test_maps_and_texts_are_recorded(tmp_path: Path) -> None:
    model = MODELS / "sklearn_trees" / "model.onnx"
    record(model, tmp_path / "refs", count=2)
    assert check(model, tmp_path / "refs").passed


def test_random_outputs_are_not_compared(tmp_path: Path) -> None:
    model = kit.model("""
        g (float[2] x) => (float[2] y, float[2] z)
        { z = Abs(x)  r = RandomUniformLike(x)  y = Add(x, r) }
    """)
    record(model, tmp_path / "refs", count=1)
    names = [finding.name for finding in check(model, tmp_path / "refs").findings]
    assert "output z" in names
    assert "output y" not in names


@pytest.mark.parametrize("content", [None, "{", '{"format": 1}', '{"format": 9}', "[]"])
def test_a_broken_record_is_bad_input(net: Path, content: str | None) -> None:
    path = net.parent / "refs" / "expected.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match="record"):
        check(net, net.parent / "refs")


def test_a_missing_sample_is_bad_input(net: Path) -> None:
    (net.parent / "refs" / "test_data_set_2" / "input_0.pb").unlink()
    with pytest.raises(DataError, match="test_data_set_2"):
        check(net, net.parent / "refs")


# The command line ---------------------------------------------------------------------------------


def test_the_commands_record_and_check(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = str(net.parent / "more")
    assert main(["record", str(net), "-o", refs, "--count", "2"]) == 0
    assert main(["check", str(net), refs]) == 0
    assert "output y" in capsys.readouterr().out


def test_a_regression_exits_with_1(net: Path) -> None:
    assert main(["check", str(_changed(net, _zero_bias)), str(net.parent / "refs"), "-q"]) == 1


def test_bad_input_exits_with_2(net: Path) -> None:
    assert main(["check", str(net), str(net.parent / "nowhere")]) == 2


def test_findings_are_written_for_machines(net: Path) -> None:
    junit, found = net.with_suffix(".xml"), net.with_suffix(".json")
    changed = _changed(net, _grow)
    main(
        [
            "check",
            str(changed),
            str(net.parent / "refs"),
            "--junit",
            str(junit),
            "--json",
            str(found),
        ]
    )
    suite = ElementTree.parse(junit).getroot()
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["bytes"]
    assert json.loads(found.read_text())["passed"] is False
