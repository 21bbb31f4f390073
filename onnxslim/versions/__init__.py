"""Models in another version of ONNX's own operator set."""

from onnxslim.versions.convert import convert, file_format

__all__ = ["convert", "file_format"]
