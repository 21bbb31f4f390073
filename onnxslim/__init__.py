"""Make ONNX models smaller and faster, and check that they are still the same models.

>>> import onnxslim
>>> small = onnxslim.slim("model.onnx", "small.onnx")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxslim.api import run, slim
    from onnxslim.base import Context, Effect, Pass, opset_at_least
    from onnxslim.data import Calibration
    from onnxslim.errors import OnnxslimError
    from onnxslim.ir import Model
    from onnxslim.pack import load
    from onnxslim.pipeline import Pipeline, Report
    from onnxslim.registry import parse, unparse
    from onnxslim.rewrite import Builder, RewritePass

__version__ = "0.1.0"

_HOME = {
    "Builder": "rewrite",
    "Calibration": "data",
    "Context": "base",
    "Effect": "base",
    "Model": "ir",
    "OnnxslimError": "errors",
    "Pass": "base",
    "Pipeline": "pipeline",
    "Report": "pipeline",
    "RewritePass": "rewrite",
    "load": "pack",
    "opset_at_least": "base",
    "parse": "registry",
    "run": "api",
    "slim": "api",
    "unparse": "registry",
}

__all__ = [
    "Builder",
    "Calibration",
    "Context",
    "Effect",
    "Model",
    "OnnxslimError",
    "Pass",
    "Pipeline",
    "Report",
    "RewritePass",
    "__version__",
    "load",
    "opset_at_least",
    "parse",
    "run",
    "slim",
    "unparse",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``onnxslim --help`` needs none of it."""
    if name not in _HOME:
        raise AttributeError(f"module 'onnxslim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"onnxslim.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
