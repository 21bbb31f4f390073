"""What a run did, as one page for a browser."""

from onnxslim.report.page import page

__all__ = ["page"]
