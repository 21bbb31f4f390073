"""What sharing weights saves and costs, without tuning; with *tuned*, with it.

    python -m benchmarks.share ../shared [tuned]

Where a density is given, weights are first set to zero by magnitude (a last layer of few weights
keeps 40 %). Bytes are of whole files, the signal-to-noise ratio is of the outputs on test images
that the model before sharing gives, times are of one thread with onnxruntime's optimizations on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from benchmarks.datasets import Array, Dataset, digits, photographs
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.pack import save
from onnxslim.runtime import Session, latency_ratio

_DATA: dict[str, Callable[[Path], Dataset]] = {"seeds": digits, "classify": photographs}
_OPTIONS = ("share", "share{per=channel}", "share{values=256,rows=4}")
_RUNS: dict[str, tuple[tuple[float, str], ...]] = {
    "seeds/lenet300": (
        *((1.0, f"share{{values={values}}}") for values in (6, 9)),
        (1.0, "share"),
        (1.0, "share{values=40}"),
        (1.0, "share{per=channel}"),
        (1.0, "share{per=model}"),
        (1.0, "share{levels=uniform}"),
        (1.0, "share{values=256,rows=4}"),
        (1.0, "share-hashed"),
        (0.2, "share"),
        (0.1, "share"),
        (0.1, "share{aim=packed}"),
        (0.1, "share{levels=uniform,aim=packed}"),
        (0.06, "share{values=8}"),
        (0.06, "share{values=8,aim=packed}"),
    ),
    "seeds/lenet5": tuple((1.0, spec) for spec in _OPTIONS),
    "seeds/mlp625": tuple((1.0, spec) for spec in _OPTIONS),
    "classify/cifar10_resnet20_bn": (
        (1.0, "share{values=40}"),
        (1.0, "share{values=40,weighting=power}"),
        (1.0, "share"),
        (1.0, "share{weighting=power}"),
        (1.0, "share{weighting=power,per=channel}"),
    ),
}
_TUNED = {
    "share": "epochs=10,lr=0.005",
    "share{values=256,rows=4}": "epochs=10,lr=0.03",
    "share{values=256,rows=8}": "epochs=10,lr=0.03",
    "share-hashed": "epochs=20,lr=0.3",
    "share-hashed{ratio=0.03}": "epochs=20,lr=0.3",
}
"""By pass, how values are tuned on MNIST's training images, without labels."""
_SMALL = 5_000
_CALIBRATED = 1_000
_LOADS = 9


def main(shared: Path) -> None:
    """Print the table."""
    print("| model | density | pass | bytes | packed | SQNR | error | load | latency |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, runs in _RUNS.items():
        proto = onnx.load(shared / "models" / f"{name}.onnx")
        data = _DATA[name.split("/")[0]](shared / "data")
        for density, spec in runs:
            before, _ = Pipeline(parse("lossless"))(Model.from_proto(pruned(proto, density)))
            print(row(name, density, spec, before, data), flush=True)


def tuned(shared: Path) -> None:
    """Print what tuning makes of LeNet-300-100."""
    model, data = Model.load(shared / "models" / "seeds" / "lenet300.onnx"), digits(shared / "data")
    parts = np.array_split(data.samples, len(data.samples) // 100)
    calibration = Calibration.of([{data.name: part} for part in parts])
    print("| pass | tuned | bytes | packed | error |")
    print("| --- | --- | ---: | ---: | ---: |")
    for spec, options in _TUNED.items():
        steps = parse(f"{spec},tune{{{options},loss=kl,temperature=4}},strip")
        after, _ = Pipeline(steps, check="off")(model, calibration)
        error = 100 * float((data.answer(scores(after, data)) != data.answers).mean())
        sizes = f"{after.size():,} | {packed(after):,}"
        print(f"| `{spec}` | `{options}` | {sizes} | {error:.2f} % |", flush=True)


def row(name: str, density: float, spec: str, before: Model, data: Dataset) -> str:
    """Return the line of one run."""
    samples = data.samples[:_CALIBRATED]
    calibration = Calibration.of([{data.name: one[None]} for one in samples])
    after, _ = Pipeline(parse(f"{spec},strip"), check="off")(before, calibration)
    outputs = [scores(model, data) for model in (before, after)]
    errors = [100 * float((data.answer(found) != data.answers).mean()) for found in outputs]
    noise = np.square(outputs[1].astype(np.float64) - outputs[0]).sum()
    decibels = 10 * np.log10(np.square(outputs[0].astype(np.float64)).sum() / noise)
    loads = [loading(model) for model in (before, after)]
    feed = {data.name: samples[:1]}
    latency = latency_ratio(after.to_bytes(), before.to_bytes(), [feed])
    cells = (
        name, f"{density:.0%}", f"`{spec}`", f"{after.size():,}", f"{packed(after):,}",
        f"{decibels:.1f} dB", f"{errors[0]:.2f} → {errors[1]:.2f} %",
        f"{loads[0]:.1f} → {loads[1]:.1f} ms", f"{latency:.2f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


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


def scores(model: Model, data: Dataset) -> Array:
    """Return what *model* says of the test images."""
    session = Session(model.to_bytes(), optimize=True)
    parts = np.array_split(data.tests, max(1, len(data.tests) // 500))
    return np.concatenate([next(iter(session.run({data.name: part}).values())) for part in parts])


def packed(model: Model) -> int:
    """Return the bytes of the packed file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnxz"
        save(model, path)
        return path.stat().st_size


def loading(model: Model) -> float:
    """Return the milliseconds of processor time that onnxruntime takes to load *model*."""
    content, options, times = model.to_bytes(), onnxruntime.SessionOptions(), []
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for _ in range(_LOADS):
        start = time.process_time()
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        times.append(time.process_time() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    (tuned if "tuned" in sys.argv[2:] else main)(Path(sys.argv[1]))
