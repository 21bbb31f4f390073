"""ONNX's own backend corpus: what lossless passes change there computes what it computed.

A changed model is run, without onnxruntime's optimizations and with all of them, on the inputs of
its case, and compared with the original under the same conditions. What onnxruntime cannot run is
checked for its structure alone.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx.backend.test import loader

import onnxslim
from onnxslim import versions
from onnxslim.data import Calibration, Feed, input_specs
from onnxslim.errors import CannotRun, DataError, PassError
from onnxslim.ir import Model
from onnxslim.runtime import Session
from onnxslim.validate import check_structure

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
CHUNKS = 8
LIGHT = sorted((Path(loader.DATA_DIR) / "light").glob("*.onnx"))
NOT_KEPT = ("wrong", "crashed")
INVALID = {"test_affine_grid_2d_expanded", "test_affine_grid_2d_align_corners_expanded"}
"""These give Range vectors of one element, which onnxruntime refuses once it knows their shape. So
folding breaks them, and the pipeline must notice."""


class Case(NamedTuple):
    name: str
    model: onnx.ModelProto
    feeds: list[Feed]


@functools.cache
def corpus() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reference computations
        return [_case(item) for kind in KINDS for item in loader.load_model_tests(kind=kind)]


def _case(item: Any) -> Case:
    if item.model is None:
        proto = onnx.load(Path(item.model_dir) / "model.onnx")
        try:
            feeds = list(Calibration.load(Path(item.model_dir), input_specs(proto)))
            return Case(item.name, proto, feeds)
        except DataError:
            return Case(item.name, proto, [])
    constants = {tensor.name for tensor in item.model.graph.initializer}
    names = [info.name for info in item.model.graph.input if info.name not in constants]
    feeds = [dict(zip(names, map(_plain, inputs), strict=False)) for inputs, _ in item.data_sets]
    return Case(item.name, item.model, feeds)


def _plain(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def verdict(case: Case, unchanged: bool = False) -> str:
    """Slim the model of a case and compare; models that nothing changed only if *unchanged*."""
    before = Model.from_proto(case.model)
    try:
        result = onnxslim.run(before, check="end" if case.name in INVALID else "off")
        if not result.report.changed and not unchanged:
            return "unchanged"
        content = result.model.to_bytes()
        check_structure(before, result.model, content)
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
    outcomes = [_compare(case, content, optimize) for optimize in (False, True)]
    return next((outcome for outcome in outcomes if outcome.startswith(NOT_KEPT)), outcomes[0])


def _compare(case: Case, content: bytes, optimize: bool) -> str:
    try:
        session = Session(case.model.SerializeToString(), optimize)
        expected = [session.run(feed) for feed in case.feeds]
        again = [session.run(feed) for feed in case.feeds]
    except CannotRun:
        return "not runnable"
    if not expected:
        return "not runnable"
    try:
        session = Session(content, optimize)
        found = [session.run(feed) for feed in case.feeds]
    except CannotRun as error:
        return f"wrong: {error}"
    for first, second, third in zip(expected, again, found, strict=True):
        for name in first:
            random = not _same(first[name], second[name], exact=True)
            if not random and not _same(first[name], third[name]):
                return f"wrong: {name} was {first[name]}, became {third[name]}"
    return "kept"


def _same(a: Any, b: Any, exact: bool = False) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key], exact) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b, [exact] * len(a)))
    if not isinstance(a, np.ndarray):
        return bool(a == b)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.dtype.kind in "OUSbiu":
        return bool((a == b).all())
    left, right = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
    scale = np.abs(left[np.isfinite(left)]).max(initial=0)
    tolerance = 0 if exact else scale * (1e-2 if a.dtype.itemsize < 4 else 1e-5)
    return bool(np.allclose(left, right, rtol=0, atol=tolerance, equal_nan=True))


def summary(verdicts: Sequence[str]) -> str:
    return str(dict(Counter(text.partition(":")[0] for text in verdicts)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_outputs_are_kept(chunk: int) -> None:
    verdicts = {case.name: verdict(case) for case in corpus()[chunk::CHUNKS]}
    broken = {name: text for name, text in verdicts.items() if text.startswith(NOT_KEPT)}
    assert not broken, f"{summary(list(verdicts.values()))}: {broken}"


def test_much_of_the_corpus_changes() -> None:
    """Else the other tests say little: most cases are single nodes on inputs."""
    chunk = corpus()[::CHUNKS]
    counts = Counter(verdict(case) for case in chunk)
    assert len(corpus()) > 1500
    assert counts["kept"] > len(chunk) // 20, counts


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_networks_without_their_weights(path: Path) -> None:
    report = onnxslim.run(path).report
    assert report.validation.passed or not report.changed, report.validation.reason
    assert not report.warnings
    assert report.after.bytes <= report.before.bytes


def converted(case: Case, target: int) -> str:
    """Take the model of a case to another opset and compare, without optimizations."""
    before = Model.from_proto(case.model)
    after = before.copy()
    try:
        versions.convert(after, target)
        content = after.to_bytes()
        check_structure(before, after, content)
    except PassError:
        return "refused"
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
    outcome = _compare(case, content, optimize=False)
    return "no kernel" if "Could not find an implementation" in outcome else outcome


@pytest.mark.slow
@pytest.mark.parametrize("target", [11, 13, 18, 22])
def test_outputs_are_kept_in_another_opset(target: int) -> None:
    verdicts = {case.name: converted(case, target) for case in corpus()}
    broken = {name: text for name, text in verdicts.items() if text.startswith(NOT_KEPT)}
    assert not broken, f"{summary(list(verdicts.values()))}: {broken}"
