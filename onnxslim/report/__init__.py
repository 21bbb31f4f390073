"""What a run or a search did, as one page for a browser."""

from onnxslim.report.page import page
from onnxslim.report.search import search_page

__all__ = ["page", "search_page"]
