"""Feeds: what a model is run on, from files, from Python, or made up.

Calibration data streams: a feed is read when it is asked for and forgotten after it, so that a
thousand samples take no more memory than one.
"""

from onnxslim.data.calibration import Calibration
from onnxslim.data.checks import check
from onnxslim.data.folders import kind_of, read_value, write_value
from onnxslim.data.functions import imported
from onnxslim.data.generated import generate, requested
from onnxslim.data.preprocessing import Preprocessing
from onnxslim.data.specs import Array, Dim, Feed, InputSpec, input_specs

__all__ = [
    "Array",
    "Calibration",
    "Dim",
    "Feed",
    "InputSpec",
    "Preprocessing",
    "check",
    "generate",
    "imported",
    "input_specs",
    "kind_of",
    "read_value",
    "requested",
    "write_value",
]
