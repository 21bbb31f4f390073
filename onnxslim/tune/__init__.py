"""Tuning: gradient descent on the float initializers of a model, through its own operators.

>>> from onnxslim.tune import Options, Tuner
>>> result = Tuner("small.onnx", "model.onnx", "data.npz", Options(epochs=5)).run()
>>> result.save("tuned.onnx")
"""

from onnxslim.errors import MissingPackage

try:
    import torch as _torch  # noqa: F401 (everything below needs it)
except ImportError as error:
    raise MissingPackage("tune needs PyTorch: pip install 'onnxslim[tune]'") from error

from onnxslim.tune.executor import Executor
from onnxslim.tune.options import Options
from onnxslim.tune.result import Epoch, Result, Score
from onnxslim.tune.tuner import Tuner

__all__ = ["Epoch", "Executor", "Options", "Result", "Score", "Tuner"]
