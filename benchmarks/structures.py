"""What Kronecker products and structured matrices find again, save, and cost.

    python -m benchmarks.structures [MODEL DATA] [--parts planted,article,speed]

``planted`` hides structured matrices, as they are and with noise of 1 %, in a layer: how far the
weight that is found is from the one that was given, and how many parameters it has. ``article``
factorizes MODEL, an MLP of 784-625-10 on handwritten digits, from the command line: its weights,
and its errors on the test set without any tuning. ``speed`` runs layers and what takes their places
by turns (onnxruntime, all optimizations, one thread, processor time, medians of the ratios).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto

from benchmarks.layers import product, speedup
from onnxslim import Model, Pass, Pipeline, parse

Array = npt.NDArray[Any]
SIZES = (64, 256, 1024, 2048)


def factorized(weight: Array, steps: tuple[Pass, ...]) -> tuple[Model, dict[str, Any]]:
    """Return a layer with its weight replaced, and what the report says of it."""
    after, report = Pipeline(steps, check="off", budget=1e9)(product(weight))
    (notes,) = [step.notes for step in report.steps]
    return after, dict(notes[0]) if notes else {"form": "left alone"}


# Planted structure --------------------------------------------------------------------------------


def kronecker(size: int, terms: int, rng: np.random.Generator) -> tuple[Array, str, int]:
    """Return a sum of Kronecker products."""
    first = 2 ** (size.bit_length() // 2)
    rest = size // first
    made = sum(
        np.kron(rng.standard_normal((first, first)), rng.standard_normal((rest, rest)))
        for _ in range(terms)
    )
    spec = f"factorize-kronecker{{terms={terms},first={first}x{first}}}"
    return np.asarray(made), spec, terms * (first**2 + rest**2)


def indexed(size: int, family: str, rng: np.random.Generator) -> tuple[Array, str, int]:
    """Return a matrix of few numbers, each in many places."""
    i, j = np.ogrid[:size, :size]
    block, width = 16, 2
    counts = {
        "circulant": size, "toeplitz": 2 * size - 1,
        "block-circulant": size**2 // block, "banded": (2 * width + 1) * size,
    }  # fmt: skip
    places = {
        "circulant": (j - i) % size, "toeplitz": j - i + size - 1,
        "block-circulant": (i // block * (size // block) + j // block) * block + (j - i) % block,
        "banded": i * (2 * width + 1) + np.clip(j - i + width, 0, 2 * width),
    }  # fmt: skip
    count = counts[family]
    made = rng.standard_normal(count)[places[family]]
    if family == "banded":
        made = made * (abs(i - j) <= width)
    spec = f"factorize-prodsum{{family={family},ratio={count / size**2}}}"
    return np.asarray(made), spec, count


PLANTED: dict[str, Callable[[int, np.random.Generator], tuple[Array, str, int]]] = {
    "Kronecker, 1 term": lambda size, rng: kronecker(size, 1, rng),
    "Kronecker, 4 terms": lambda size, rng: kronecker(size, 4, rng),
    "circulant": lambda size, rng: indexed(size, "circulant", rng),
    "circulant blocks of 16": lambda size, rng: indexed(size, "block-circulant", rng),
    "Toeplitz": lambda size, rng: indexed(size, "toeplitz", rng),
    "banded, 5 diagonals": lambda size, rng: indexed(size, "banded", rng),
}


def part_planted(given: argparse.Namespace) -> Iterator[str]:
    """Yield a row for every structure and size."""
    yield "| structure | size | parameters | in theory | error | error at 1 % noise | s |"
    for name, make in PLANTED.items():
        for size in SIZES:
            rng = np.random.default_rng(size)
            weight, spec, count = make(size, rng)
            noise = rng.standard_normal(weight.shape)
            noise *= 0.01 * np.linalg.norm(weight) / np.linalg.norm(noise)
            begin = time.process_time()
            _, note = factorized(weight, parse(spec))
            spent = time.process_time() - begin
            _, noisy = factorized(weight + noise, parse(spec))
            yield (
                f"| {name} | {size} | {note['parameters']:,} | {count:,} | {note['error']:.1e} "
                f"| {noisy['error']:.3%} | {spent:.1f} |"
            )


# The article's network ----------------------------------------------------------------------------

VARIANTS = {
    "first layer A ⊗ B": "factorize-kronecker{first=28x25}",
    "first layer A ⊗ A": "factorize-kronecker{shared=true}",
    "both layers A ⊗ B": "factorize-kronecker",
    "first A ⊗ A, second A ⊗ B": "factorize-kronecker{shared=true},factorize-kronecker",
}


def part_article(given: argparse.Namespace) -> Iterator[str]:
    """Yield a row for the network as it is and for every variant."""
    yield "| network | weights | bytes | test error | with data | "
    digits = np.load(given.data / "mnist.npz")
    images, labels = normalised(digits["x_test"]), digits["y_test"]
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "images.npy", Path(folder) / "out.onnx"
        np.save(data, normalised(digits["x_train"][:2048]))
        original = error(given.model, images, labels)
        yield f"| as it is | {weights(given.model):,} | {size(given.model):,} | {original:.2%} | |"
        for name, spec in VARIANTS.items():
            errors = []
            for more in ([], ["-c", str(data)]):
                command = [sys.executable, "-m", "onnxslim", str(given.model), "-o", str(out)]
                command += ["-p", spec, "--check", "off", "-q", *more]
                subprocess.run(command, check=True)
                errors.append(error(out, images, labels))
            yield (
                f"| {name} | {weights(out):,} | {size(out):,} | {errors[0]:.2%} | {errors[1]:.2%} |"
            )


def normalised(images: Array) -> Array:
    """Return digits as the network reads them."""
    return ((images[:, None].astype(np.float32) / 255 - 0.1307) / 0.3081).astype(np.float32)


def error(path: Path, images: Array, labels: Array) -> float:
    """Return the share of the images that is taken for something else."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: images})
    return float((np.asarray(scores).argmax(1) != labels).mean())


def weights(path: Path) -> int:
    """Count the floats of matrices: biases are left out, as in the article."""
    proto = onnx.load(path)
    floats = (t for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT)
    return sum(int(np.prod(t.dims)) for t in floats if len(t.dims) > 1)


def size(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


# Speed --------------------------------------------------------------------------------------------

FORMS = {
    "Kronecker": "factorize-kronecker",
    "Kronecker, 4 terms": "factorize-kronecker{terms=4}",
    "A ⊗ A": "factorize-kronecker{shared=true}",
    "circulant blocks of 16": "factorize-prodsum{family=block-circulant,ratio=0.0625}",
    "Toeplitz": "factorize-prodsum{family=toeplitz}",
}


def part_speed(given: argparse.Namespace) -> Iterator[str]:
    """Yield a row for every form and size: the speed relative to the dense layer, by batch."""
    yield "| form | size | batch 1 | 8 | 64 | how |"
    for name, spec in FORMS.items():
        for side in (256, 1024, 4096):
            weight = np.random.default_rng(side).standard_normal((side, side)) / np.sqrt(side)
            after, note = factorized(weight, parse(spec))
            before = product(weight)
            ratios = [speedup(before, after, (n, side), given.seconds) for n in (1, 8, 64)]
            cells = " | ".join(f"{r:.2f} x" if r < 10 else f"{r:.0f} x" for r in ratios)
            yield f"| {name} | {side} | {cells} | {note['form']} |"


PARTS = {"planted": part_planted, "article": part_article, "speed": part_speed}


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=0.5, help="for every ratio")
    given = parser.parse_args()
    for part in given.parts.split(","):
        rows = PARTS[part](given)
        header = next(rows)
        print(header, "|" + " --- |" * (header.count("|") - 1), sep="\n", flush=True)
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    main()
