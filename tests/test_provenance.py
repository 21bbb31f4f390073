"""What a model says was done to it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import onnxslim
from kit import model
from onnxslim.cli import main
from onnxslim.ir import Model
from onnxslim.provenance import KEY

TEXT = """g (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w = {W}>
{ long_name_of_what_is_dropped = Identity(x) m = MatMul(long_name_of_what_is_dropped, w)
  long_name_of_what_is_repeated = Relu(m) y = Relu(long_name_of_what_is_repeated) }"""
VERSION = onnxslim.__version__


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    model(TEXT.replace("{W}", "{" + ", ".join(f"{n % 7 - 3}" for n in range(64)) + "}")).save(path)
    return path


def noted(found: Model | onnx.ModelProto) -> str | None:
    proto = found.proto() if isinstance(found, Model) else found
    return {entry.key: entry.value for entry in proto.metadata_props}.get(KEY)


def test_a_model_that_was_changed_says_how(source: Path) -> None:
    assert noted(onnxslim.run(source).model) == f"{VERSION} lossless"


def test_it_counts_as_bytes(source: Path) -> None:
    outcome = onnxslim.run(source)
    assert outcome.report.after.bytes == outcome.model.size()


def test_another_run_that_changes_nothing_leaves_it(source: Path) -> None:
    once = onnxslim.run(source).model
    assert onnxslim.run(once.proto()).model.to_bytes() == once.to_bytes()


def test_other_runs_add_theirs(source: Path) -> None:
    first = onnxslim.run(source, "drop-identity").model
    second = onnxslim.run(first, "drop-idempotent").model
    assert noted(second) == f"{VERSION} drop-identity; {VERSION} drop-idempotent"


def test_the_same_passes_say_the_same_however_they_are_named(source: Path) -> None:
    spec = ",".join(map(onnxslim.unparse, onnxslim.parse("lossless-bytes")))
    assert noted(onnxslim.run(source, spec).model) == f"{VERSION} lossless-bytes"


def test_of_a_long_list_what_changed_something_is_named(source: Path) -> None:
    outcome = onnxslim.run(source, "lossless", skip=["merge-bounds"])
    assert noted(outcome.model) == f"{VERSION} drop-identity,drop-idempotent"


def test_other_metadata_stays_in_its_place(source: Path) -> None:
    proto = onnx.load(source)
    for key in ("author", KEY, "licence"):
        proto.metadata_props.add(key=key, value="x")
    found = onnxslim.run(proto).model.proto().metadata_props
    assert [entry.key for entry in found] == ["author", "licence", KEY]


def test_nothing_is_noted_where_the_file_would_grow() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x) y = Relu(a) }")
    outcome = onnxslim.run(before)
    assert (len(list(outcome.model.nodes())), noted(outcome.model)) == (1, None)


def test_strip_strips_it(source: Path) -> None:
    assert noted(onnxslim.run(source, "lossless,strip").model) is None


def test_it_can_be_switched_off(source: Path, tmp_path: Path) -> None:
    assert noted(onnxslim.slim(source, provenance=False)) is None
    target = tmp_path / "out.onnx"
    assert main([str(source), "-o", str(target), "-q", "--no-provenance"]) == 0
    assert noted(onnx.load(target)) is None
