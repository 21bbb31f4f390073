"""What sharing weights saves and costs on LeNet-300-100, without tuning.

    python -m benchmarks.share ../shared

Weights are first set to zero by magnitude, down to the density in the first column (the last layer
keeps 40 %). The error is of the 10,000 images of MNIST's test set; sizes are whole files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from onnxslim import Model, Pipeline, parse
from onnxslim.pack import save

_RUNS = (
    (1.0, "share"),
    (1.0, "share{values=6}"),
    (1.0, "share{per=model}"),
    (1.0, "share{levels=uniform}"),
    (1.0, "share{values=256,rows=4}"),
    (0.2, "share"),
    (0.1, "share"),
    (0.1, "share{levels=uniform}"),
    (0.06, "share{values=8}"),
)
_SMALL = 5_000


def pruned(proto: onnx.ModelProto, density: float) -> onnx.ModelProto:
    """Return *proto* with its smallest weights set to zero."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        kept = max(density, 0.4) if values.size < _SMALL else density
        if values.ndim == 2 and density < 1:
            values[np.abs(values) < np.quantile(np.abs(values), 1 - kept)] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return made


def error(model: Model, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Return the share of *images* that *model* takes for another digit, in percent."""
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: images})
    return 100 * float((scores.argmax(1) != labels).mean())


def main(shared: Path) -> None:
    """Print the table."""
    proto = onnx.load(shared / "models" / "seeds" / "lenet300.onnx")
    mnist = np.load(shared / "data" / "mnist.npz")
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    images = (mnist["x_test"].astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081)
    images = images.reshape(-1, *shape)
    print("| density | pass | bytes | packed | error | pruned only |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for density, spec in _RUNS:
        before = Model.from_proto(pruned(proto, density))
        after, _ = Pipeline(parse(f"{spec},strip"), check="off")(before)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.onnxz"
            save(after, path)
            packed = path.stat().st_size
        errors = [error(model, images, mnist["y_test"]) for model in (after, before)]
        shown = f"{after.size():,} | {packed:,} | {errors[0]:.2f} % | {errors[1]:.2f} %"
        print(f"| {density:.0%} | `{spec}` | {shown} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
