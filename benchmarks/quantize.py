"""quantize-static beside onnxruntime's own quantize_static: accuracy, bytes, latency.

    python benchmarks/quantize.py MODELS DATA [--only NAME,NAME] [--tests 1000] [--rounds 30]

MODELS holds ``classify/cifar10_resnet20_bn.onnx`` and so on, DATA ``cifar10.npz``, ``plates.npz``
and ``mnist.npz``. Both quantize what the lossless recipe made of a model, with the same samples,
which are no part of the test; onnxruntime with its defaults and with uint8 activations and int8
weights per channel, of 8 and of 7 bits. Accuracy is the share of right answers. Speed is how many
times as fast as the float model onnxruntime runs the result, on one thread, fully optimized, all
by turns, the best of many runs.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from onnxslim import Calibration, Model, Pipeline, parse

Array = npt.NDArray[Any]
Answer = Callable[[Array], Array]
U8S8 = {
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
}
RIVALS: dict[str, dict[str, Any]] = {
    "onnxruntime": {},
    "onnxruntime, per channel": U8S8,
    "onnxruntime, per channel, 7 bits": {**U8S8, "reduce_range": True},
}


@dataclass
class Task:
    """A model, samples to calibrate on, and others with their right answers."""

    path: Path
    calibration: Array
    tests: Array
    labels: Array
    answer: Answer


def classes(logits: Array) -> Array:
    """Return the class of each sample."""
    return np.asarray(logits.argmax(1))


def plates(logits: Array) -> Array:
    """Return the texts: repeated and blank symbols dropped, letters as in the data."""
    letters = (
        *"京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新",
        *"0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO",
        "",
    )
    steps = logits.argmax(1)
    new = np.diff(steps, axis=1, prepend=-1) != 0
    rows = zip(steps, new, strict=True)
    return np.array(["".join(letters[s] for s in row[kept]) for row, kept in rows])


def cifar(models: Path, data: Path, name: str, tests: int) -> Task:
    """Classify small photographs."""
    found = np.load(data / "cifar10.npz")
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

    def prepared(images: Array) -> Array:
        scaled = ((images / 255 - mean) / deviation).astype(np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    path = models / "classify" / f"{name}.onnx"
    known, new = prepared(found["x_calib"][:128]), prepared(found["x_test"][:tests])
    return Task(path, known, new, found["y_test"][:tests], classes)


def mnist(models: Path, data: Path, name: str, tests: int) -> Task:
    """Classify digits."""
    found = np.load(data / "mnist.npz")

    def prepared(images: Array) -> Array:
        return ((images[:, None] / 255 - 0.1307) / 0.3081).astype(np.float32)

    path = models / "seeds" / f"{name}.onnx"
    known, new = prepared(found["x_train"][:128]), prepared(found["x_test"][:tests])
    return Task(path, known, new, found["y_test"][:tests], classes)


def lprnet(models: Path, data: Path, name: str, tests: int) -> Task:
    """Read licence plates."""
    found = np.load(data / "plates.npz")
    images = ((found["x"][..., ::-1] - 127.5) * 0.0078125).astype(np.float32)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    path = models / "ocr" / f"{name}.onnx"
    labels = found["text"][128 : 128 + tests]
    return Task(path, images[:128], images[128 : 128 + tests], labels, plates)


TASKS: dict[str, Callable[[Path, Path, str, int], Task]] = {
    "cifar10_resnet20_bn": cifar,
    "cifar10_resnet56_bn": cifar,
    "lprnet_bn": lprnet,
    "lenet300": mnist,
    "lenet5": mnist,
    "mlp625": mnist,
    "resnet_gamma_mnist": mnist,
}


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Feeds for onnxruntime's calibration."""

    def __init__(self, feeds: Sequence[dict[str, Array]]) -> None:
        """Give *feeds* one by one."""
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next feed."""
        return next(self.feeds, None)


def session(content: bytes) -> ort.InferenceSession:
    """Load a model to be run on one thread."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def batches(values: Array, size: int) -> Iterator[Array]:
    """Cut *values* into batches of one size."""
    for start in range(0, len(values) - size + 1, size):
        yield values[start : start + size]


def variants(task: Task) -> Iterator[tuple[str, bytes]]:
    """Yield the float model and what each quantizer makes of it."""
    model, _ = Pipeline(parse("lossless"), check="off")(Model.load(task.path))
    name, size = model.graph.inputs[0].name, batch_size(model)
    feeds = [{name: batch} for batch in batches(task.calibration, size or 8)]
    yield "float", model.to_bytes()
    quantize = Pipeline(parse("quantize-static"), check="off")
    yield "onnxslim", quantize(model, Calibration.of(feeds))[0].to_bytes()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        model.save(source)
        for label, settings in RIVALS.items():
            quantize_static(source, target, Samples(feeds), **settings)
            yield label, target.read_bytes()


def batch_size(model: Model) -> int:
    """Return the declared batch size, 0 where it is free."""
    size = (model.graph.inputs[0].shape or [0])[0]
    return size if isinstance(size, int) else 0


def accuracy(content: bytes, task: Task, size: int) -> float:
    """Return the share of right answers in percent."""
    loaded = session(content)
    name = loaded.get_inputs()[0].name
    found = [
        task.answer(loaded.run(None, {name: batch})[0]) for batch in batches(task.tests, size or 50)
    ]
    answers = np.concatenate(found)
    return float((answers == task.labels[: len(answers)]).mean() * 100)


def speeds(contents: Sequence[bytes], sample: Array, rounds: int) -> list[float]:
    """Return milliseconds for one *sample*, measured by turns."""
    loaded = [session(content) for content in contents]
    times: list[list[float]] = [[] for _ in loaded]
    for _ in range(rounds + 3):
        for one, found in zip(loaded, times, strict=True):
            start = time.perf_counter()
            one.run(None, {one.get_inputs()[0].name: sample})
            found.append((time.perf_counter() - start) * 1e3)
    return [min(found) for found in times]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    print("| model | by | accuracy | bytes | of the file | speed |\n|---|---|---|---|---|---|")
    for name in given.only.split(","):
        task = TASKS[name](given.models, given.data, name, given.tests)
        size, file = batch_size(Model.load(task.path)), task.path.stat().st_size
        labels, contents = zip(*variants(task), strict=True)
        times = speeds(contents, task.tests[: size or 1], given.rounds)
        for label, content, taken in zip(labels, contents, times, strict=True):
            right = accuracy(content, task, size)
            print(
                f"| {name} | {label} | {right:.2f} | {len(content):,} | {len(content) / file:.3f} "
                f"| {times[0] / taken:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
