"""quantize-static beside onnxruntime's own quantizers: accuracy, bytes, latency.

    python -m benchmarks.quantize MODELS DATA [--only NAME,NAME] [--tests 4000] [--rounds 200]

MODELS holds ``classify/cifar10_resnet20_bn.onnx`` and so on, DATA ``cifar10.npz``, ``plates.npz``
and ``mnist.npz``. All quantize what the lossless recipe made of a model, with the same samples,
which are no part of the test: onnxruntime's quantize_static and quantize_dynamic with their
defaults, and quantize_static with uint8 activations and int8 weights per channel, of 8 and of 7
bits, with three calibrators. Accuracy is the share of right answers, agreement that of the float
model's answers; magika classifies files of Python's library, where the float model is taken to be
right. Speed is how many times as fast as the float model onnxruntime runs the result, fully
optimized, in processor time of one thread, all by turns, the best of many runs. The last column
says how many answers the first pipeline has right that the row has wrong, and the reverse, and how
likely such a difference is between equals.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from benchmarks.datasets import Array, dataset
from onnxslim import Calibration, Model, Pipeline, parse

U8S8 = {
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
}
CALIBRATORS = "MinMax,Percentile,Entropy"
DYNAMIC: dict[str, dict[str, Any]] = {
    "onnxruntime, dynamic": {},
    "onnxruntime, dynamic, per channel, 7 bits": {"per_channel": True, "reduce_range": True},
}


def rivals(calibrators: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield settings of quantize_static: its defaults, and all that may be better."""
    yield "onnxruntime", {}
    for name in calibrators.split(","):
        for reduced in (False, True):
            method = {"calibrate_method": getattr(CalibrationMethod, name)}
            label = f"onnxruntime, per channel, {8 - reduced} bits, {name}"
            yield label, {**U8S8, **method, "reduce_range": reduced}


@dataclass
class Task:
    """A model, samples to calibrate on, and others with their right answers."""

    path: Path
    calibration: Array
    tests: Array
    labels: Array | None
    answer: Callable[[Array], Array]

    @classmethod
    def of(cls, path: Path, data: Path, tests: int) -> Task:
        """Take the first 128 samples to calibrate on, and as many as *tests* to judge by."""
        found = dataset(path, data)
        right = None if found.answers is None else found.answers[:tests]
        return cls(path, found.samples[:128], found.tests[:tests], right, found.answer)


TASKS = {
    "cifar10_resnet20_bn": "classify",
    "cifar10_resnet56_bn": "classify",
    "lprnet_bn": "ocr",
    "magika_standard_v3_3": "classify",
    "lenet300": "seeds",
    "lenet5": "seeds",
    "mlp625": "seeds",
    "resnet_gamma_mnist": "seeds",
}
"""Models by name, with their folders."""


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


def variants(task: Task, specs: Sequence[str], calibrators: str) -> Iterator[tuple[str, bytes]]:
    """Yield the float model and what each quantizer makes of it."""
    model, _ = Pipeline(parse("lossless"), check="off")(Model.load(task.path))
    name, size = model.graph.inputs[0].name, batch_size(model)
    feeds = [{name: batch} for batch in batches(task.calibration, size or 8)]
    yield "float", model.to_bytes()
    for spec in specs:
        after, _ = Pipeline(parse(spec), check="off")(model, Calibration.of(feeds))
        yield f"onnxslim, {spec}", after.to_bytes()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        model.save(source)
        for label, settings in rivals(calibrators):
            try:
                quantize_static(source, target, Samples(feeds), **settings)
            except ValueError as error:
                print(f"| | {label} | fails: {error} | | | | |")
            else:
                yield label, target.read_bytes()
        for label, settings in DYNAMIC.items():
            if not any(node.op == "Conv" for node in model.nodes()):  # it has no fast kernel
                quantize_dynamic(source, target, **settings)
                yield label, target.read_bytes()


def batch_size(model: Model) -> int:
    """Return the declared batch size, 0 where it is free."""
    size = (model.graph.inputs[0].shape or [0])[0]
    return size if isinstance(size, int) else 0


def answers(content: bytes, task: Task, size: int) -> Array:
    """Return what a model answers."""
    loaded = session(content)
    name = loaded.get_inputs()[0].name
    return np.concatenate(
        [
            task.answer(loaded.run(None, {name: batch})[0])
            for batch in batches(task.tests, size or 50)
        ]
    )


def paired(ours: Array, others: Array, truth: Array) -> str:
    """Tell how many answers only one of two models has right, and how likely that is by chance.

    That is the exact test of McNemar 1947: alike models are right alone equally often.
    """
    won, lost = (((a == truth) & (b != truth)).sum() for a, b in ((ours, others), (others, ours)))
    count, less = int(won + lost), int(min(won, lost))
    chance = 2 * sum(math.comb(count, k) for k in range(less + 1)) / 2**count
    return f"{won}:{lost}, {min(1.0, chance):.2f}"


def speeds(contents: Sequence[bytes], sample: Array, rounds: int) -> list[float]:
    """Return the processor time for one *sample*, measured by turns, in another order each time."""
    loaded = [(session(content), list[int]()) for content in contents]
    dice = random.Random(0)
    for _ in range(rounds + 3):
        for one, found in dice.sample(loaded, len(loaded)):
            start = time.thread_time_ns()
            one.run(None, {one.get_inputs()[0].name: sample})
            found.append(time.thread_time_ns() - start)
    return [float(min(found)) for _, found in loaded]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--specs", default="quantize-static", help="pipelines, apart by ;")
    parser.add_argument("--calibrators", default=CALIBRATORS, help="of onnxruntime")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    print(
        "| model | by | accuracy | agreement | bytes | of the file | speed | onnxslim alone right |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in given.only.split(","):
        task = Task.of(given.models / TASKS[name] / f"{name}.onnx", given.data, given.tests)
        size, file = batch_size(Model.load(task.path)), task.path.stat().st_size
        made = variants(task, given.specs.split(";"), given.calibrators)
        labels, contents = zip(*made, strict=True)
        times = speeds(contents, task.tests[: size or 1], given.rounds)
        expected = answers(contents[0], task, size)
        truth = expected if task.labels is None else task.labels[: len(expected)]
        ours = answers(contents[1], task, size)
        for label, content, taken in zip(labels, contents, times, strict=True):
            found = answers(content, task, size)
            right, same = (found == truth).mean() * 100, (found == expected).mean() * 100
            print(
                f"| {name} | {label} | {right:.2f} | {same:.2f} | {len(content):,} "
                f"| {len(content) / file:.3f} | {times[0] / taken:.2f} "
                f"| {paired(ours, found, truth)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
