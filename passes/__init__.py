"""The built-in passes, one per file; import them as ``onnxslim.passes.<folder>.<file>``."""

if __name__ != "onnxslim.passes":
    raise ImportError(f"these passes are imported as onnxslim.passes, not as {__name__}")
