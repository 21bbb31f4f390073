"""What every test needs: models from text, and one assertion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx.parser
import onnxruntime as ort  # noqa: TID251, to see what it makes of a model
from onnx import numpy_helper

from onnxslim import Model, Pass, Pipeline
from onnxslim.registry import unparse

LOCAL = "local"
"""The domain of local functions in models from text."""


def model(text: str, opset: int = 20, ir: int = 9) -> Model:
    """Parse ONNX text; the header is supplied unless the text brings its own.

    Local functions may follow the graph; their domain is ``local``.
    """
    text = text.strip()
    if not text.startswith("<"):
        imports = f'"" : {opset}, "{LOCAL}" : 1, "ai.onnx.ml" : 3, "com.microsoft" : 1'
        used = [i for i in imports.split(", ") if i.split('"')[1] in ("", *_domains(text))]
        text = f"<ir_version: {ir}, opset_import: [{', '.join(used)}]>\n{text}"
    return Model.from_proto(onnx.parser.parse_model(text))


def _domains(text: str) -> list[str]:
    return [
        d for d in (LOCAL, "ai.onnx.ml", "com.microsoft") if f"{d}." in text or f'"{d}"' in text
    ]


def holding(before: Model, **arrays: npt.NDArray[Any]) -> Model:
    """Give *before* initializers: of types that text cannot say, or too large for it."""
    proto = before.proto()
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return Model.from_proto(proto)


def operators(of: Model) -> list[str]:
    """Return the operators of every graph in order, outermost first, without Constant."""
    return [node.op for node in of.nodes() if node.op != "Constant"]


def optimized(of: Model, level: str = "ORT_ENABLE_EXTENDED") -> list[str]:
    """Return the operators of the main graph that onnxruntime runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(of.to_bytes(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath)
    return [node.op_type for node in made.graph.node]


def assert_rewrites(before: Model, step: Pass, ops: list[str], changes: int = 1) -> Model:
    """Apply *step*: these operators remain and, by the pipeline's checks, the same function.

    Returns the result. Constant nodes are not listed in *ops*.
    """
    frozen = before.to_bytes()
    after, report = Pipeline((step,), check="each")(before)
    (done,) = report.steps
    assert not report.warnings, f"{unparse(step)}: {report.warnings}"
    assert operators(after) == ops, f"{unparse(step)} declined: {done.places}"
    assert done.changes == changes
    assert report.validation.passed is (True if changes else None), report.validation
    assert before.to_bytes() == frozen, "the input model was touched"
    return after


def assert_declines(before: Model, step: Pass, reason: str = "") -> None:
    """Apply *step*; nothing changes, and *reason* is part of what the report says about it.

    With an empty *reason* the pass must not have seen anything to decline.
    """
    after, report = Pipeline((step,), check="each")(before)
    (done,) = report.steps
    said = [*filter(None, [done.skipped]), *done.declined]
    assert done.changes == 0
    assert after is before
    assert not report.warnings
    assert any(reason in text for text in said) if reason else not said, said
