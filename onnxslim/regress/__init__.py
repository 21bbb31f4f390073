"""Is a model still what it was? Reference outputs are recorded once and checked in CI.

>>> from onnxslim.regress import assert_model, record
>>> record("model.onnx", "references", data="data.npz")
>>> assert_model("small.onnx", "references", max_size="0.3x")
"""

from onnxslim.regress.checks import Finding, Limits, Verdict, assert_model, check
from onnxslim.regress.records import Records, record

__all__ = ["Finding", "Limits", "Records", "Verdict", "assert_model", "check", "record"]
