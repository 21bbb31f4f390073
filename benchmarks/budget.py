"""The smallest models inside a budget, beside single methods, on samples that no search has seen.

    python -m benchmarks.budget MODELS DATA [--only NAME,...] [--tune] [--timed] [--keep DIR]

MODELS holds ``seeds/lenet300.onnx`` and so on, DATA ``mnist.npz``, ``cifar10.npz``, ``plates.npz``.
For each model all levels of all methods are tried once, on the first half of the test images of
MNIST and CIFAR-10 (images that a model was trained on say little of what it loses), on plates and
files apart from the tests for the others; half of those judge. For every drop that is allowed, the
table says what the search chooses, what the best single method comes to, how much worse the choice
was judged to be (95 % of resampled judges see less than the number in parentheses), and how much
worse it is on the tests, which the search has not seen: the mean, and the bounds between which 95 %
of resampled tests lie (Efron 1979). The last columns are what ``--sure`` chooses, which limits that
number in parentheses. ``--timed`` also tells the fastest, by the time of a run as a part of the
original's. onnxruntime's own quantize_static (int8 by channel) is judged by the same tests.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import quantize_static

from benchmarks.datasets import Array, Dataset, classes, dataset, read_plates
from benchmarks.quantize import U8S8, Samples
from onnxslim import Model, Pipeline, parse
from onnxslim.search import Budget, Candidate, Result, search

MODELS = (
    "seeds/lenet300", "seeds/lenet5", "seeds/mlp625", "seeds/resnet_gamma_mnist",
    "classify/cifar10_resnet20_bn", "classify/cifar10_resnet56_bn", "ocr/lprnet_bn",
    "classify/magika_standard_v3_3",
)  # fmt: skip
DROPS = (0.0, 0.005, 0.01, 0.02)
FITTED, FEW, RESAMPLED = 4_000, 250, 500
METHODS = {
    "integers": ("integers",),
    "4 bits and others": ("integers, weights only",),
    "sharing": ("sharing", "sharing of rows"),
    "pruning": ("pruning", "channels"),
    "factors": ("low rank", "low rank, integers", "Kronecker products"),
}
"""Single methods, by the names that the search gives them."""


@dataclass
class Case:
    """A model, its samples, and what it answers to the tests."""

    path: Path
    samples: Dataset

    def __post_init__(self) -> None:
        """Share the tests, where there are many, and let the original answer."""
        of = self.samples
        if of.answers is not None and of.answer is classes:
            half = min(FITTED, len(of.tests) // 2)
            self.samples = Dataset(
                of.name, of.tests[:half], of.answers[:half].astype(np.int64), of.tests[half:],
                of.answers[half:],
            )  # fmt: skip
        self.size = self.path.stat().st_size
        shape = Model.load(self.path).graph.inputs[0].shape or [None]
        self.batch = shape[0] if isinstance(shape[0], int) else 50
        self.expected = self.answers(self.path)
        right = self.samples.answers
        self.right = self.expected if right is None else right[: len(self.expected)]

    def answers(self, path: Path) -> Array:
        """Return what a model answers to the tests."""
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name, tests = session.get_inputs()[0].name, self.samples.tests
        starts = range(0, len(tests) - self.batch + 1, self.batch)
        parts = (session.run(None, {name: tests[at : at + self.batch]})[0] for at in starts)
        return np.concatenate([self.samples.answer(part) for part in parts])

    def drop(self, path: Path) -> tuple[float, float, float]:
        """Return by how many points a model is worse on the tests, and bounds of 95 %."""
        lost = (self.expected == self.right) * 1.0 - (self.answers(path) == self.right)
        dice = np.random.default_rng(0)
        means = [lost[dice.integers(0, len(lost), len(lost))].mean() for _ in range(RESAMPLED)]
        low, high = np.quantile(means, (0.025, 0.975))
        return 100 * float(lost.mean()), 100 * float(low), 100 * float(high)


def searched(case: Case, folder: Path, tune: bool, timed: bool, jobs: int) -> Result:
    """Try everything on the samples that are not the tests."""
    given = {case.samples.name: case.samples.samples[:FITTED]}
    metric = "agreement"
    if case.samples.labels is not None:
        given["labels"] = case.samples.labels[:FITTED]
        metric = "top1" if case.samples.answer is classes else "benchmarks.budget:read"
    np.savez(folder / "data.npz", **given)  # type: ignore[arg-type]
    budget = Budget(max_drop=max(DROPS), latency=math.inf if timed else None)
    return search(
        case.path, folder / "data.npz", budget, metric=metric, tune=tune,
        pareto=folder / "front", jobs=jobs, state=folder / "state",
    )  # fmt: skip


def read(outputs: Sequence[Mapping[str, Array]], texts: Array) -> float:
    """Return the share of plates that are read as they should be, a metric of the search."""
    scores = np.concatenate([next(iter(found.values())) for found in outputs])
    return float((read_plates(scores) == texts).mean())


def rival(case: Case, folder: Path) -> Path:
    """Return what onnxruntime's own quantizer makes of the model."""
    plain, made = folder / "plain.onnx", folder / "onnxruntime.onnx"
    Pipeline(parse("lossless"), check="off")(Model.load(case.path))[0].save(plain)
    size = case.batch if case.batch < 50 else 8
    known = case.samples.samples[:128]
    feeds = [{case.samples.name: known[at : at + size]} for at in range(0, 128 - size + 1, size)]
    quantize_static(plain, made, Samples(feeds), **U8S8)
    return made


def smallest(found: Sequence[Candidate], drop: float, sure: bool = False) -> Candidate | None:
    """Return the smallest candidate inside a drop."""
    budget = Budget(max_drop=drop, sure=sure)
    inside = [one for one in found if one.failed is None and budget.is_good(one.drop, one.bound)]
    return min(inside, key=lambda one: (one.size, one.drop), default=None)


def rows(case: Case, result: Result) -> Iterator[tuple[str, ...]]:
    """Yield what the search and single methods come to at each drop."""
    tested = functools.cache(lambda path: told(case, Path(path)))
    for drop in DROPS:
        chosen, surely = (smallest(result.candidates, drop, sure) for sure in (False, True))
        if chosen is None or surely is None:
            continue
        singles = []
        for names in METHODS.values():
            best = smallest([c for c in result.candidates if c.method in names], drop)
            singles.append("-" if best is None else f"{best.size:,}")
        yield (
            f"{100 * drop:g}", f"{chosen.size:,}", f"1/{case.size / chosen.size:.1f}",
            chosen.method, f"{100 * chosen.drop:.2f} ({100 * chosen.bound:.2f})",
            tested(chosen.path), *singles, f"{surely.size:,}", tested(surely.path),
        )  # fmt: skip


def fastest(found: Sequence[Candidate], drop: float) -> Candidate | None:
    """Return the fastest candidate inside a drop."""
    inside = [one for one in found if one.failed is None and one.drop <= drop]
    return min(inside, key=lambda one: (one.latency or 0.0, one.size), default=None)


def times(result: Result) -> Iterator[tuple[str, ...]]:
    """Yield the times of the search's choice and of single methods at each drop."""
    for drop in DROPS:
        chosen = fastest(result.candidates, drop)
        if chosen is None:
            continue
        singles = []
        for names in METHODS.values():
            best = fastest([c for c in result.candidates if c.method in names], drop)
            singles.append("-" if best is None else f"{best.latency:.2f}")
        yield (f"{100 * drop:g}", f"{chosen.latency:.2f}", chosen.method, *singles)


def told(case: Case, path: Path) -> str:
    """Return by how much a model is worse on the tests."""
    mean, low, high = case.drop(path)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def tell(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--tune", action="store_true", help="also by gradient descent")
    parser.add_argument("--timed", action="store_true", help="how fast they are, too")
    parser.add_argument("--keep", type=Path, help="where all that is tried is kept, to go on from")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for name in given.only.split(","):
        path = given.models / f"{name}.onnx"
        case = Case(path, dataset(path, given.data, FEW))
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.keep or Path(temporary)) / path.stem
            folder.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            result = searched(case, folder, given.tune, given.timed, given.jobs)
            print(
                f"{name}: {case.size:,} bytes, {len(result.candidates)} candidates in "
                f"{time.perf_counter() - start:.0f} s, judged by {result.judges} samples, "
                f"{len(case.right)} tests\n"
            )
            titles = [
                *("allowed, points", "search", "", "by", "judged", "on the tests"),
                *(*METHODS, "surely", "on the tests"),
            ]
            tell(*titles)
            tell(*["---"] * len(titles))
            for row in rows(case, result):
                tell(*row)
            if given.timed:
                print()
                tell("allowed, points", "time", "by", *METHODS)
                tell(*["---"] * (3 + len(METHODS)))
                for row in times(result):
                    tell(*row)
            try:
                made = rival(case, folder)
            except ValueError as error:
                print(f"\nonnxruntime, int8: fails: {error}\n")
            else:
                size = made.stat().st_size
                print(f"\nonnxruntime, int8: {size:,} bytes, {told(case, made)} points\n")


if __name__ == "__main__":
    main()
