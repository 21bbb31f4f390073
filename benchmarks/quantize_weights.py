"""What weights of few bits save, cost, and do to the outputs.

    python benchmarks/quantize_weights.py MODELS DATA [--only NAME ...] [--parts bytes,bits]

Every model first goes through the lossless recipe. ``bytes`` stores its weights as int8: the size
and the time of a run relative to float weights (onnxruntime, all optimizations, one thread, one
sample, both by turns, the fastest of each). ``rounding`` compares nearest with second-order
rounding to 4 bits. ``bits`` compares allocate-bits with the same width for all weights in as many
bytes, 6, 5 and 4 bits at most: SQNR of all alike and by layer. ``dynamic`` compares
quantize-dynamic with onnxruntime's own quantize_dynamic (int8 by channel, 7 bits) on models with
products, and some with LSTM. SQNR is that of the worst output, in dB, on unseen samples; for
``dynamic`` on made-up ones.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.data import generate, input_specs
from onnxslim.validate import Reference, bounded

Array = npt.NDArray[Any]
FEEDS = 8


def cifar(data: Path) -> Array:
    """Return photographs, normalised as torchvision does."""
    x = np.load(data / "cifar10.npz")["x_calib"][:1024].astype(np.float32) / 255
    mean, spread = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return np.asarray(((x - mean) / spread).transpose(0, 3, 1, 2))


def digits(data: Path) -> Array:
    """Return handwritten digits."""
    x: Array = np.load(data / "mnist.npz")["x_train"][:1024, None].astype(np.float32) / 255
    return (x - 0.1307) / 0.3081


def plates(data: Path) -> Array:
    """Return licence plates."""
    x = np.load(data / "plates.npz")["x"].astype(np.float32)
    return np.asarray(((x[..., ::-1] - 127.5) / 128).transpose(0, 3, 1, 2))


def files(data: Path) -> Array:
    """Return the first and last bytes of source files, 256 where there are none."""
    rows = []
    for path in sorted(Path(__file__).parents[1].rglob("*.*"))[:1024]:
        content = path.read_bytes() if path.is_file() else b""
        if len(content) > 64:
            row = np.full(2048, 256, np.int32)
            row[: len(content[:1024])] = list(content[:1024])
            row[2048 - len(content[-1024:]) :] = list(content[-1024:])
            rows.append(row)
    order = np.random.default_rng(0).permutation(len(rows))
    return np.stack(rows)[order]


MODELS: dict[str, tuple[Callable[[Path], Array], int]] = {
    "classify/cifar10_resnet20_bn": (cifar, 0),
    "classify/cifar10_resnet56_bn": (cifar, 0),
    "ocr/lprnet_bn": (plates, 1),
    "classify/magika_standard_v3_3": (files, 0),
    "seeds/lenet300": (digits, 0),
    "seeds/lenet5": (digits, 0),
    "seeds/mlp625": (digits, 0),
    "seeds/resnet_gamma_mnist": (digits, 0),
}
"""Samples, and the batch size where it is fixed."""


class Case:
    """A model, and samples to calibrate on and to test with."""

    def __init__(self, name: str, models: Path, data: Path, batch: int, count: int) -> None:
        samples, fixed = MODELS[name]
        self.name = name
        self.original = Model.load(models / f"{name}.onnx")
        self.input = self.original.graph.inputs[0].name
        self.float, _ = Pipeline(parse("lossless"), check="off")(self.original)
        rows, size = samples(data), fixed or batch
        self.calibration = self._feeds(rows[: len(rows) // 2], size, count // size)
        test = self._feeds(rows[len(rows) // 2 :], size, FEEDS)
        self.reference = Reference(self.original.to_bytes(), self.original, test)
        self.sample = {self.input: rows[:1]}

    def _feeds(self, rows: Array, size: int, count: int) -> Calibration:
        count = max(FEEDS, count)
        return Calibration.of(
            [{self.input: rows[at * size : (at + 1) * size]} for at in range(count)]
        )

    def apply(self, spec: str) -> Model:
        """Return the model after passes."""
        return Pipeline(parse(spec), check="off")(self.float, self.calibration)[0]

    def sqnr(self, model: Model) -> float:
        """Return the signal-to-noise ratio on the test samples."""
        return _sqnr(self.reference, model.to_bytes())


def _sqnr(reference: Reference, model: bytes) -> float:
    noise = reference.noise(model)
    return -10 * math.log10(noise) if noise else math.inf


def slowdown(models: Sequence[bytes], sample: dict[str, Array], rounds: int) -> list[float]:
    """Return how much processor time models take to run, relative to the first of them."""
    sessions = [_session(model) for model in models]
    best = [math.inf] * len(models)
    for _ in range(rounds):
        for number, session in enumerate(sessions):
            start = time.process_time()
            session.run(None, sample)
            best[number] = min(best[number], time.process_time() - start)
    return [item / best[0] for item in best[1:]]


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def part_bytes(case: Case, rounds: int) -> str:
    """Size and time of int8 weights."""
    model = case.apply("quantize-weights")
    shares = (model.size() / of.size() for of in (case.original, case.float))
    (slow,) = slowdown([m.to_bytes() for m in (case.float, model)], case.sample, rounds)
    cells = " | ".join(f"{share:.3f}" for share in shares)
    return f"| {case.name} | {cells} | {slow:.3f} | {case.sqnr(model):.1f} |"


def part_rounding(case: Case, rounds: int) -> str:
    """Nearest and second-order rounding to 4 bits."""
    near = case.apply("quantize-weights{bits=4}")
    second = case.apply("quantize-weights{bits=4,rounding=gptq}")
    share = second.size() / case.float.size()
    same = "" if near.size() == second.size() else " (other bytes)"
    return (
        f"| {case.name} | {share:.3f}{same} | {case.sqnr(near):.1f} | {case.sqnr(second):.1f} "
        f"| {case.sqnr(second) - case.sqnr(near):+.1f} |"
    )


def part_bits(case: Case, rounds: int) -> str:
    """Bits by layer and the same for all, in as many bytes."""
    cells = []
    for bits in (6, 5, 4):
        even = case.apply(f"quantize-weights{{bits={bits}}}")
        chosen = case.apply(f"allocate-bits{{bytes={even.size()}}}")
        assert chosen.size() <= even.size()
        cells.append(f"{case.sqnr(even):.1f} / {case.sqnr(chosen):.1f}")
    return f"| {case.name} | {' | '.join(cells)} |"


def part_dynamic(path: Path, rounds: int) -> str:
    """Compare with onnxruntime's dynamic quantization: bytes, time and SQNR of both."""
    original = Model.load(path)
    float_, _ = Pipeline(parse("lossless"), check="off")(original)
    ours, _ = Pipeline(parse("quantize-dynamic,quantize-lstm"), check="off")(float_)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(float_.to_bytes())
        quantize_dynamic(
            before, after, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
        theirs = after.read_bytes()
    specs = bounded(input_specs(original.skeleton()), original)
    feeds = [next(iter(generate(specs, seed))) for seed in range(FEEDS)]
    reference, feed = Reference(original.to_bytes(), original, Calibration.of(feeds)), feeds[0]
    models = [ours.to_bytes(), theirs]
    times = slowdown([float_.to_bytes(), *models], feed, rounds)
    ratios = [_sqnr(reference, made) for made in models]
    cells = [
        f"{len(made) / float_.size():.2f}, {slow:.2f}, {sqnr:.1f}"
        for made, slow, sqnr in zip(models, times, ratios, strict=True)
    ]
    return f"| {path.stem} | {' | '.join(cells)} |"


PARTS = {
    "bytes": (part_bytes, "| model | of original | of lossless | time | SQNR |"),
    "rounding": (part_rounding, "| model | bytes | nearest | second order | gain |"),
    "bits": (part_bits, "| model | 6 bits | 5 bits | 4 bits |"),
}


DYNAMIC = (
    "seeds/lenet300", "seeds/mlp625", "classify/magika_standard_v3_3", "audio/dtln_model_1",
)  # fmt: skip
"""Models with products; the last one has LSTM too."""


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--parts", default=",".join([*PARTS, "dynamic"]))
    parser.add_argument("--rounds", type=int, default=200, help="runs to time")
    parser.add_argument("--batch", type=int, default=16, help="samples of a feed")
    parser.add_argument("--samples", type=int, default=512, help="samples to calibrate on")
    given = parser.parse_args()
    for part in given.parts.split(","):
        if part == "dynamic":
            print("| model | bytes, time, SQNR | onnxruntime |", "| --- | --- | --- |", sep="\n")
            for name in DYNAMIC:
                print(part_dynamic(given.models / f"{name}.onnx", given.rounds), flush=True)
            continue
        run, header = PARTS[part]
        print(header, "|" + " --- |" * (header.count("|") - 1), sep="\n", flush=True)
        for name in given.only:
            case = Case(name, given.models, given.data, given.batch, given.samples)
            print(run(case, given.rounds), flush=True)


if __name__ == "__main__":
    main()
