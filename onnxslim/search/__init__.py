"""One budget in, the best model out.

>>> from onnxslim.search import Budget, search
>>> result = search("model.onnx", "data.npz", Budget(max_drop=0.005))
>>> result.model.save("small.onnx")
"""

from onnxslim.search.budget import Budget, latency, size
from onnxslim.search.judge import Candidate
from onnxslim.search.search import Result, search, seconds

__all__ = ["Budget", "Candidate", "Result", "latency", "search", "seconds", "size"]
