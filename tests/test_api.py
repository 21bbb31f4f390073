"""``onnxslim.slim`` and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxslim
from kit import model
from onnxslim import Context, Effect, Model, Pass
from onnxslim.api import Data
from onnxslim.errors import InputError, SpecError

TEXT = "main (float[N] x) => (float[N] y) { i = Identity(x) y = Relu(i) }"


def test_slims_a_proto_and_leaves_it_alone() -> None:
    proto = model(TEXT).proto()
    before = proto.SerializeToString()
    assert [node.op_type for node in onnxslim.slim(proto).graph.node] == ["Relu"]
    assert proto.SerializeToString() == before


def test_slims_a_file_into_a_file(tmp_path: Path) -> None:
    model(TEXT).save(tmp_path / "in.onnx")
    small = onnxslim.slim(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == small


def test_an_unchanged_file_is_copied_byte_by_byte(tmp_path: Path) -> None:
    proto = model("main (float[N] x) => (float[N] y) { y = Relu(x) }").proto()
    odd = proto.SerializeToString() + b"\xa2\x06\x03odd"  # an unknown field
    (tmp_path / "in.onnx").write_bytes(odd)
    onnxslim.slim(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == odd


def test_feeds_from_python() -> None:
    outcome = onnxslim.run(model(TEXT), data=[{"x": np.ones(3, np.float32)}] * 2)
    assert outcome.report.validation.feeds == 2


def test_data_may_be_a_function_of_arrays() -> None:
    def arrays() -> Iterator[np.ndarray[Any, Any]]:
        yield from np.ones((3, 4))

    outcome = onnxslim.run(model(TEXT), data=arrays)
    assert outcome.report.validation.feeds == 3


def test_a_function_gives_data_before_and_after_a_change_of_type() -> None:
    outcome = onnxslim.run(model(TEXT), data=lambda: iter([np.ones(3, np.float32)]), dtype="fp16")
    assert any("1 feeds" in warning for warning in outcome.report.warnings)


EMBEDDED = """main (int64[N, M] x) => (float[N, M, 2] y)
<float[7, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, int64[3] s = {0, 5, 2}>
{ g = Gather(w, x) i = Identity(g) y = Reshape(i, s) }"""


def seen_by_a_pass(data: Data) -> list[Any]:
    seen = list[Any]()

    @dataclass(frozen=True)
    class Look(Pass):
        """Look at the data."""

        name = "look"
        effect = Effect.EXACT

        def apply(self, model: Model, context: Context) -> int:
            seen.extend(feed["x"] for feed in context.calibration())
            return 0

    onnxslim.run(model(EMBEDDED), (Look(),), data=data)
    return seen


def test_made_up_data_are_what_the_model_can_run() -> None:
    seen = np.array(seen_by_a_pass("random:9"))
    assert (len(seen), seen.shape[2], int(seen.min()), int(seen.max())) == (9, 5, 0, 6)


def test_passes_get_data_in_the_types_of_the_model() -> None:
    assert seen_by_a_pass([np.zeros((1, 5), np.int8)])[0].dtype == np.int64


def test_options_of_images_need_a_folder() -> None:
    with pytest.raises(InputError, match="options of images go with a folder of images"):
        onnxslim.run(model(TEXT), data=[np.ones(3)], images={"mean": 1})


def test_passes_may_be_objects() -> None:
    steps = onnxslim.parse("drop-identity")
    assert len(onnxslim.slim(model(TEXT).proto(), passes=steps).graph.node) == 1


def test_unknown_passes_are_refused() -> None:
    with pytest.raises(SpecError, match="drop-identity"):
        onnxslim.slim(model(TEXT).proto(), passes="drop-identiti")


ATTENTION = """main (float[N, S, 8] x) => (float[N, S, 8] y)
<int64[4] h = {0, 0, 2, 4}, int64[3] r = {0, 0, 8}>
{ a = Reshape(x, h) q = Transpose <perm = [0, 2, 1, 3]> (a) k = Transpose <perm = [0, 2, 3, 1]> (a)
  s = MatMul(q, k) w = Softmax <axis = -1> (s) o = MatMul(w, q)
  t = Transpose <perm = [0, 2, 1, 3]> (o) y = Reshape(t, r) }"""


@pytest.mark.parametrize("contrib", [False, True])
def test_operators_of_onnxruntime_are_used_if_allowed(contrib: bool) -> None:
    slimmed = onnxslim.slim(model(ATTENTION), contrib=contrib)
    assert any(node.domain == "com.microsoft" for node in slimmed.graph.node) is contrib


def test_public_names_exist() -> None:
    assert all(getattr(onnxslim, name) is not None for name in onnxslim.__all__)
