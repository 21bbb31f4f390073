"""Deep compression: how small trained nets get, without labels, at how many wrong answers.

    python -m benchmarks.deep_compression MODELS DATA [--only lenet300,kronecker,...] [--keep DIR]

MODELS holds ``seeds/lenet300.onnx`` and so on, DATA ``mnist.npz`` and ``cifar10.npz``. Sizes are
those of whole files; ``packed`` is the same model as ``.onnxz``. Models learn from the original's
answers to training images alone; errors on the last 10,000 training images of MNIST, which they do
not learn from, are what settings are chosen by, those on the test images are reported.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onnxslim
from benchmarks.datasets import Array, digits, photographs
from onnxslim import Model
from onnxslim.api import save
from onnxslim.ir import Node
from onnxslim.runtime import Session, lent
from onnxslim.tune import Options, Tuner

HELD_OUT = 10_000
"""Training images of MNIST that only choose."""


@dataclass
class Task:
    """Samples to learn from, and others with their right answers."""

    name: str
    """Of the input."""
    samples: Array
    labels: Array
    """Of the samples; they only say that outputs are scores of classes."""
    held_out: tuple[Array, Array]
    tests: tuple[Array, Array]
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @property
    def data(self) -> Path:
        """A file with the samples, as users have it."""
        path = Path(self.folder.name) / "data.npz"
        if not path.exists():
            np.savez(path, **{self.name: self.samples, "labels": self.labels})  # type: ignore[arg-type]
        return path

    def errors(self, model: Model) -> tuple[float, float]:
        """Return the percentages of wrong answers to what was held out, and to the tests."""
        with lent(model) as source:
            session = Session(source, optimize=True)
        return self._wrong(session, *self.held_out), self._wrong(session, *self.tests)

    def _wrong(self, session: Session, images: Array, labels: Array) -> float:
        parts = np.array_split(images, max(1, len(images) // 500))
        answers = [next(iter(session.run({self.name: p}).values())).argmax(1) for p in parts]
        return 100 * float((np.concatenate(answers) != labels).mean())


def mnist(data: Path) -> Task:
    """Digits."""
    found = digits(data)
    assert found.labels is not None
    assert found.answers is not None
    return Task(
        found.name, found.samples[:-HELD_OUT], found.labels[:-HELD_OUT],
        (found.samples[-HELD_OUT:], found.labels[-HELD_OUT:]), (found.tests, found.answers),
    )  # fmt: skip


def cifar(data: Path) -> Task:
    """Small photographs, a tenth of which are held out."""
    found = photographs(data)
    assert found.labels is not None
    assert found.answers is not None
    count = len(found.samples) // 10
    return Task(
        found.name, found.samples[:-count], found.labels[:-count],
        (found.samples[-count:], found.labels[-count:]), (found.tests, found.answers),
    )  # fmt: skip


@dataclass
class Bench:
    """Where models come from and go to."""

    models: Path
    data: Path
    keep: Path | None

    def slimmed(self, name: str, task: Task, spec: str) -> tuple[Model, float]:
        """Return what a pipeline makes of a model, and the seconds that it took."""
        start = time.perf_counter()
        outcome = onnxslim.run(self.models / name, spec, data=task.data, max_error=math.inf)
        return outcome.model, time.perf_counter() - start

    def sizes(self, model: Model, name: str) -> tuple[int, int]:
        """Return the bytes of a model's file, plain and packed; both are kept where asked."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [(self.keep or Path(folder)) / f"{name}.{kind}" for kind in ("onnx", "onnxz")]
            for path in paths:
                save(model, path)
            return paths[0].stat().st_size, paths[1].stat().st_size

    def original(self, name: str) -> tuple[Model, int]:
        """Return a model as it was given, and the bytes of its file."""
        return Model.load(self.models / name), (self.models / name).stat().st_size


def tell(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def heading(*titles: str) -> None:
    """Print the first two rows of a table."""
    tell(*titles)
    tell(*["---"] * len(titles))


def compressed(bench: Bench, name: str, task: Task, specs: Mapping[str, str]) -> None:
    """Print errors and sizes of what pipelines make of a model."""
    heading("", "held out, %", "test, %", "bytes", "", "packed", "", "s")
    original, size = bench.original(name)
    before = task.errors(original)
    tell("original", *(f"{error:.2f}" for error in before), f"{size:,}", "", "", "", "")
    for title, spec in specs.items():
        model, seconds = bench.slimmed(name, task, spec)
        errors = (f"{error:.2f}" for error in task.errors(model))
        plain, packed = bench.sizes(model, f"{Path(name).stem}-{title}".replace(" ", "-"))
        tell(
            title, *errors, f"{plain:,}", f"1/{size / plain:.0f}", f"{packed:,}",
            f"1/{size / packed:.0f}", f"{seconds:.0f}",
        )  # fmt: skip


def deep(sparsity: float, values: int, epochs: int, **others: object) -> tuple[str, str]:
    """Return a title and the recipe with these options."""
    more = "".join(f",{key}={value}" for key, value in others.items())
    title = f"{100 * sparsity:g} % zeros, {values} values, {epochs} epochs"
    return title, f"deep{{sparsity={sparsity},values={values},epochs={epochs}{more}}}"


# Han et al. 2016 ----------------------------------------------------------------------------------


def lenet300(bench: Bench) -> None:
    """Deep compression of LeNet-300-100."""
    settings = [(0.955, 16, 20), (0.965, 8, 40), (0.97, 8, 60), (0.975, 8, 60)]
    specs = dict(deep(*setting, shift=1) for setting in settings)
    compressed(bench, "seeds/lenet300.onnx", mnist(bench.data), specs)


def lenet5(bench: Bench) -> None:
    """Deep compression of LeNet-5."""
    settings = [(0.955, 16, 10), (0.96, 16, 8), (0.975, 8, 12), (0.98, 8, 16)]
    specs = dict(deep(*setting, shift=1) for setting in settings)
    compressed(bench, "seeds/lenet5.onnx", mnist(bench.data), specs)


# Structured layers --------------------------------------------------------------------------------

_TUNED = (
    "tune{epochs=5,lr=0.05,batch=32,loss=mse,shift=1},"
    "tune{epochs=5,lr=0.03,batch=32,loss=kl,temperature=4,shift=1}"
)


def tuned_structures(bench: Bench, specs: Mapping[str, str]) -> None:
    """Print errors of 784-625-10 with structured layers, before and after tuning."""
    task = mnist(bench.data)
    heading("", "weights", "test, %", "tuned: held out, %", "test, %", "bytes", "s")
    original, size = bench.original("seeds/mlp625.onnx")
    errors = task.errors(original)
    tell("dense", "496,250", f"{errors[1]:.2f}", "", "", f"{size:,}", "")
    for title, spec in specs.items():
        before, _ = bench.slimmed("seeds/mlp625.onnx", task, f"lossless,{spec}")
        model, seconds = bench.slimmed("seeds/mlp625.onnx", task, f"lossless,{spec},{_TUNED}")
        plain, _ = bench.sizes(model, f"mlp625-{title}".replace(" ", "-"))
        held_out, test = task.errors(model)
        tell(
            title, f"{weights(model):,}", f"{task.errors(before)[1]:.2f}", f"{held_out:.2f}",
            f"{test:.2f}", f"{plain:,}", f"{seconds:.0f}",
        )  # fmt: skip


def weights(model: Model) -> int:
    """Return how many numbers are weights: floats that are no biases."""
    floats = (tensor for tensor in model.constants() if tensor.values.dtype.kind == "f")
    return sum(t.size for t in floats if len(t.shape) > 1 or not any(map(_adds, t.outputs)))


def _adds(node: Node) -> bool:
    return node.operator in ("Add", "Gemm")


def kronecker(bench: Bench) -> None:
    """Nozawa's Kronecker layers."""
    tuned_structures(
        bench,
        {
            "first A x B": "factorize-kronecker{first=28x25}",
            "first A x A": "factorize-kronecker{shared=true}",
            "both A x B": "factorize-kronecker",
            "first A x A, second A x B": "factorize-kronecker{shared=true},factorize-kronecker",
        },
    )


def prodsum(bench: Bench) -> None:
    """Wu 2018, ProdSumNet: few parameters."""
    second = "factorize-prodsum{family=toeplitz,ratio=0.11}"  # the first leaves that layer alone
    first = "factorize-prodsum{{family={},ratio=0.0059}}"
    products = ("toeplitz*toeplitz", "toeplitz*circulant")
    tuned_structures(bench, {f"{p}, toeplitz": f"{first.format(p)},{second}" for p in products})


# Channels that fade -------------------------------------------------------------------------------


_FADING = "epochs=10,lr=0.01,loss=kl,temperature=4,shift=2,mirror=true"


def gamma(bench: Bench) -> None:
    """L1 on batch-norm scales, then exact removal of the channels that this made dead."""
    task, name = cifar(bench.data), "classify/cifar10_resnet20_bn.onnx"
    heading("L1 on gamma", "parameters", "held out, %", "test, %", "bytes", "s")
    for strength in (0.0, 1e-3, 3e-3, 1e-2):
        tuned = f"tune{{{_FADING},l1-gamma={strength}}},lossless-bytes"
        model, seconds = bench.slimmed(name, task, tuned if strength else "lossless-bytes")
        plain, _ = bench.sizes(model, f"resnet20-gamma-{strength}")
        parameters = sum(tensor.size for tensor in model.constants())
        held_out, test = task.errors(model)
        tell(
            f"{strength:g}", f"{parameters:,}", f"{held_out:.2f}", f"{test:.2f}", f"{plain:,}",
            f"{seconds:.0f}",
        )  # fmt: skip


# What matters -------------------------------------------------------------------------------------

_CRITERIA: Mapping[str, str] = {
    "magnitude": "criterion=magnitude",
    "magnitude, compensated": "criterion=magnitude,compensate=true",
    "second order": "criterion=obs",
    "Fisher": "criterion=fisher",
    "Fisher, compensated": "criterion=fisher,compensate=true",
    "magnitude, then Fisher": "criterion=magnitude-fisher",
}


def fisher(bench: Bench) -> None:
    """Errors of LeNet-300-100 pruned by several criteria, before and after tuning."""
    task, name = mnist(bench.data), "seeds/lenet300.onnx"
    original, _ = bench.original(name)
    known = importance(original, task)
    levels = (0.7, 0.8, 0.9, 0.95, 0.97)
    titles = [f"{100 * level:g} %" for level in levels]
    heading("test errors, %", *titles, *(f"{title}, tuned" for title in titles))
    for title, choice in _CRITERIA.items():
        found: dict[bool, list[str]] = {False: [], True: []}
        for level in levels:
            for tuned in found:
                spec = f"prune{{sparsity={level},{choice}}}"
                spec += ",tune{epochs=3,lr=0.02,loss=kl,temperature=4}" if tuned else ""
                outcome = onnxslim.run(
                    bench.models / name, spec, data=task.data, max_error=math.inf,
                    importance=known,
                )  # fmt: skip
                found[tuned].append(f"{task.errors(outcome.model)[1]:.2f}")
        tell(title, *found[False], *found[True])


def importance(model: Model, task: Task) -> dict[str, Array]:
    """Return Fisher's information: squared gradients for the labels, at the model as it is."""
    options = Options(epochs=1, lr=1e-9, labels=1.0)
    return Tuner(model, None, task.data, options).run().importance


# ResNets ------------------------------------------------------------------------------------------


_RESNETS: Mapping[str, Any] = {
    "lr": 0.01,
    "finish": 6,
    "finish_lr": 0.003,
    "shift": 2,
    "mirror": "true",
}


def resnets(bench: Bench, name: str, settings: Sequence[tuple[float, int, int]]) -> None:
    """Deep compression of a ResNet on few photographs."""
    specs = dict(deep(*setting, **_RESNETS) for setting in settings)
    compressed(bench, name, cifar(bench.data), specs)


def resnet20(bench: Bench) -> None:
    """ResNet-20 to an eighth and less."""
    settings = [(0.6, 24, 12), (0.7, 24, 12), (0.81, 16, 16)]
    resnets(bench, "classify/cifar10_resnet20_bn.onnx", settings)


def resnet56(bench: Bench) -> None:
    """ResNet-56 to an eighth and less."""
    settings = [(0.6, 24, 8), (0.7, 24, 8), (0.81, 16, 12)]
    resnets(bench, "classify/cifar10_resnet56_bn.onnx", settings)


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "lenet300": lenet300,
    "lenet5": lenet5,
    "kronecker": kronecker,
    "prodsum": prodsum,
    "gamma": gamma,
    "fisher": fisher,
    "resnet20": resnet20,
    "resnet56": resnet56,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--keep", type=Path, help="where models are kept")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in given.only.split(","):
        PARTS[name](Bench(given.models, given.data, given.keep))
        print()


if __name__ == "__main__":
    main()
