"""What weights of few bits save, cost, and do to the outputs.

    python benchmarks/quantize_weights.py MODELS DATA [--only NAME ...] [--parts bytes,bits]

Every model first goes through the lossless recipe. ``bytes`` stores its weights as int8: the size
and the time of a run relative to float weights (onnxruntime, all optimizations, one thread, one
sample, both by turns, the fastest of each). ``rounding`` compares
nearest with second-order rounding to 4 bits. ``bits`` compares allocate-bits with as many bits
for all weights, which for 5 and 6 bits no runtime stores: SQNR of all alike, by layer, and by layer
with second-order rounding. SQNR is that of the worst output, in dB, on unseen samples.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.base import Context
from onnxslim.passes.quantize._grid import fit
from onnxslim.passes.quantize._weight_sites import find
from onnxslim.validate import Reference

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
        noise = self.reference.noise(model.to_bytes())
        return -10 * math.log10(noise) if noise else math.inf

    def fake(self, bits: int) -> Model:
        """Return the model with every weight rounded to *bits*, stored as float."""
        copy = self.float.copy()
        for site in find(copy, Context()):
            grid = fit(site.values, site.summed, bits)
            site.tensor.values = grid.decode(grid.nearest(site.values), site.tensor.shape)
        return copy

    def slowdown(self, model: Model, rounds: int) -> float:
        """Return how long *model* runs, relative to float weights."""
        sessions = [_session(self.float), _session(model)]
        best = [math.inf, math.inf]
        for _ in range(rounds):
            for number, session in enumerate(sessions):
                start = time.perf_counter()
                session.run(None, self.sample)
                best[number] = min(best[number], time.perf_counter() - start)
        return best[1] / best[0]


def _session(model: Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])


def part_bytes(case: Case, rounds: int) -> str:
    """Size and time of int8 weights."""
    model = case.apply("quantize-weights")
    share = model.size() / case.float.size()
    slow = case.slowdown(model, rounds)
    return f"| {case.name} | {share:.3f} | {slow:.3f} | {case.sqnr(model):.1f} |"


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
    """Bits by layer and the same for all."""
    cells = []
    for bits in (6, 5, 4):
        chosen = (
            f"{case.sqnr(case.apply(f'allocate-bits{{bits={bits}.0,rounding={rounding}}}')):.1f}"
            for rounding in ("nearest", "gptq")
        )
        cells.append(" / ".join([f"{case.sqnr(case.fake(bits)):.1f}", *chosen]))
    return f"| {case.name} | {' | '.join(cells)} |"


PARTS = {
    "bytes": (part_bytes, "| model | bytes | time | SQNR |"),
    "rounding": (part_rounding, "| model | bytes | nearest | second order | gain |"),
    "bits": (part_bits, "| model | 6 bits | 5 bits | 4 bits |"),
}


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=200, help="runs to time")
    parser.add_argument("--batch", type=int, default=16, help="samples of a feed")
    parser.add_argument("--samples", type=int, default=512, help="samples to calibrate on")
    given = parser.parse_args()
    for part in given.parts.split(","):
        run, header = PARTS[part]
        print(header, "|" + " --- |" * (header.count("|") - 1), sep="\n", flush=True)
        for name in given.only:
            case = Case(name, given.models, given.data, given.batch, given.samples)
            print(run(case, given.rounds), flush=True)


if __name__ == "__main__":
    main()
