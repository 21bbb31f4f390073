"""What tuning gives back to models that were pruned, shared, factorized, or are to be thinned.

    python -m benchmarks.tune MODELS DATA [--only lenet300,mlp625,resnet20,executor]

MODELS holds ``seeds/lenet300.onnx`` and so on, DATA ``mnist.npz`` and ``cifar10.npz``. Nothing is
tuned on test sets, and no labels are used. Sharing and factorizing are done by hand here: plain
k-means, plain singular values. ``executor`` computes every model by torch and by onnxruntime.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

from benchmarks.datasets import Array, digits, photographs
from onnxslim import Model, Pipeline, parse
from onnxslim.api import calibration
from onnxslim.errors import OnnxslimError
from onnxslim.ir import Constant, Node, Variable, set_input
from onnxslim.runtime import Session, lent
from onnxslim.tune import Executor, Options, Tuner
from onnxslim.tune.executor import array_of

MNIST_SAMPLES, CIFAR_SAMPLES, CIFAR_TESTS = 20_000, 800, 1_000


@dataclass
class Task:
    """Samples to tune on, and others with their right answers."""

    name: str
    samples: Array
    tests: Array
    labels: Array

    def error(self, model: Model) -> float:
        """Return the percentage of wrong answers."""
        with lent(model) as source:
            session = Session(source, optimize=True)
        parts = np.array_split(self.tests, max(1, len(self.tests) // 500))
        answers = [next(iter(session.run({self.name: part}).values())).argmax(1) for part in parts]
        return 100 * float((np.concatenate(answers) != self.labels).mean())

    def tuned(self, model: Model, original: Model, options: Options) -> tuple[Model, float]:
        """Tune, and return the seconds of processor time too."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.npz"
            np.savez(path, **{self.name: self.samples})  # type: ignore[arg-type]
            start = time.process_time()
            result = Tuner(model, original, path, options).run()
        return result.model, time.process_time() - start


def mnist(data: Path) -> Task:
    """Digits."""
    found = digits(data)
    assert found.answers is not None
    return Task(found.name, found.samples[:MNIST_SAMPLES], found.tests, found.answers)


def cifar(data: Path) -> Task:
    """Small photographs."""
    found = photographs(data)
    assert found.answers is not None
    tests, answers = found.tests[:CIFAR_TESTS], found.answers[:CIFAR_TESTS]
    return Task(found.name, found.samples[:CIFAR_SAMPLES], tests, answers)


def matrices(model: Model) -> Iterator[Constant]:
    """Yield the weights of layers."""
    for tensor in model.graph.initializers:
        if isinstance(tensor, Constant) and len(tensor.shape) >= 2:
            yield tensor


def tell(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


# Pruning and sharing ------------------------------------------------------------------------------


def prune(model: Model, densities: list[float]) -> Model:
    """Keep the largest weights of each layer."""
    found = model.copy()
    for tensor, density in zip(matrices(found), densities, strict=True):
        values = np.array(tensor.values)
        values[abs(values) < np.quantile(abs(values), 1 - density)] = 0
        tensor.values = values
    return found


def share(model: Model, bits: int) -> Model:
    """Read weights from codebooks, whose first entry is zero."""
    found = model.copy()
    for tensor in list(matrices(found)):
        values = tensor.values
        kept = values[values != 0]
        ends = np.linspace(kept.min(), kept.max(), (1 << bits) - 1)
        means = KMeans(len(ends), init=ends.reshape(-1, 1), n_init=1).fit(kept.reshape(-1, 1))
        codes = np.concatenate([[0], means.cluster_centers_.ravel()]).astype(np.float32)
        places = np.zeros(values.shape, np.int32)
        places[values != 0] = means.labels_ + 1
        names = [found.names.fresh(f"{tensor.name}_{part}") for part in ("codes", "places")]
        inputs = [Constant(name, v) for name, v in zip(names, (codes, places), strict=True)]
        read = Variable(found.names.fresh(tensor.name))
        readers = list(tensor.outputs)
        found.graph.nodes.append(Node("Gather", "", {}, inputs, [read]))
        for node in readers:
            set_input(node, list(node.inputs).index(tensor), read)
    found.compact()
    found.sort()
    return found


def lenet300(models: Path, data: Path) -> None:
    """Prune by magnitude, tune, share in 4 bits, tune."""
    task, original = mnist(data), Model.load(models / "seeds" / "lenet300.onnx")
    options = Options(epochs=6, loss="kl", lr=0.04)
    tell("LeNet-300-100", "error, %", "after tuning, %", "processor s")
    tell("---", "---", "---", "---")
    tell("original", f"{task.error(original):.2f}", "", "")
    pruned = prune(original, [0.08, 0.12, 0.4])
    better, seconds = task.tuned(pruned, original, options)
    errors = [f"{task.error(model):.2f}" for model in (pruned, better)]
    tell("8 % of weights", *errors, f"{seconds:.0f}")
    for bits in (3, 2):
        shared = share(better, bits)
        best, seconds = task.tuned(shared, original, Options(epochs=2, loss="kl", lr=0.01))
        errors = [f"{task.error(model):.2f}" for model in (shared, best)]
        tell(f"8 % of weights, shared in {bits} bits", *errors, f"{seconds:.0f}")


# Factors ------------------------------------------------------------------------------------------


def factorize(model: Model, rank: int) -> Model:
    """Put a product of two matrices in place of the largest one, by its singular values."""
    found = model.copy()
    tensor = max(matrices(found), key=lambda t: t.size)
    (node,) = tensor.outputs
    left, scale, right = np.linalg.svd(tensor.values.astype(np.float64), full_matrices=False)
    root = np.sqrt(scale[:rank])
    factors = left[:, :rank] * root, root[:, None] * right[:rank]
    inputs = [
        Constant(found.names.fresh(f"{tensor.name}_{part}"), factor.astype(np.float32))
        for part, factor in zip("uv", factors, strict=True)
    ]
    read = Variable(found.names.fresh(tensor.name))
    found.graph.nodes.append(Node("MatMul", "", {}, inputs, [read]))
    set_input(node, list(node.inputs).index(tensor), read)
    found.compact()
    found.sort()
    return found


def mlp625(models: Path, data: Path) -> None:
    """Limit the rank of the hidden layer, tune the factors."""
    task, original = mnist(data), Model.load(models / "seeds" / "mlp625.onnx")
    tell("784-625-10", "weights of the layer", "error, %", "after tuning, %", "processor s")
    tell("---", "---", "---", "---", "---")
    largest = max(matrices(original), key=lambda t: t.size)
    tell("original", f"{largest.size:,}", f"{task.error(original):.2f}", "", "")
    for rank in (8, 4):
        limited = factorize(original, rank)
        better, seconds = task.tuned(limited, original, Options(epochs=3, loss="kl", lr=0.02))
        errors = [f"{task.error(model):.2f}" for model in (limited, better)]
        tell(f"rank {rank}", f"{rank * sum(largest.shape):,}", *errors, f"{seconds:.0f}")


# Channels -----------------------------------------------------------------------------------------


def resnet20(models: Path, data: Path) -> None:
    """Let batch-norm scales fade, then remove the channels that this made dead."""
    task = cifar(data)
    original = Model.load(models / "classify" / "cifar10_resnet20_bn.onnx")
    tell("ResNet-20", "scales at 0", "parameters", "accuracy, %", "processor s")
    tell("---", "---", "---", "---", "---")
    for strength in (0.0, 1e-3, 3e-3, 1e-2):
        tuned, seconds = original, 0.0
        if strength:
            options = Options(epochs=3, batch=8, lr=0.01, loss="kl", l1_gamma=strength)
            tuned, seconds = task.tuned(original, original, options)
        scales = [n.inputs[1].values for n in tuned.nodes() if n.op == "BatchNormalization"]
        zeros = sum(int((scale == 0).sum()) for scale in scales)
        thin, report = Pipeline(parse("lossless-bytes"))(tuned)
        tell(
            f"l1-gamma {strength:g}", f"{zeros} of {sum(map(len, scales))}",
            f"{report.after.parameters:,}", f"{100 - task.error(thin):.2f}", f"{seconds:.0f}",
        )  # fmt: skip


# The executor -------------------------------------------------------------------------------------


def executor(models: Path, data: Path) -> None:
    """Compute models by torch and by onnxruntime, on made-up inputs."""
    tell("model", "largest error, of scale", "onnxruntime's own")
    tell("---", "---", "---")
    for path in sorted(models.glob("*/*.onnx")):
        name, model = path.relative_to(models).with_suffix(""), Model.load(path)
        try:
            compiled = Executor(model)
            feed = next(iter(calibration("random:1", model, None, 0)))
            with torch.no_grad(), lent(model) as source:
                expected, fast = (Session(source, optimize=o).run(feed) for o in (False, True))
                found = {n: array_of(v, compiled.types[n]) for n, v in compiled(feed).items()}
        except OnnxslimError as error:
            tell(name, str(error), "")
            continue
        tell(name, f"{apart(expected, found):.0e}", f"{apart(expected, fast):.0e}")


def apart(expected: dict[str, Any], found: dict[str, Any]) -> float:
    """Return the largest difference of any output, relative to the output's scale."""
    worst = 0.0
    for name, value in expected.items():
        wanted = np.asarray(value, np.float64)
        difference = np.abs(wanted - np.asarray(found[name], np.float64)).max(initial=0)
        worst = max(worst, float(difference) / (float(np.abs(wanted).max(initial=0)) or 1))
    return worst


TASKS = {"lenet300": lenet300, "mlp625": mlp625, "resnet20": resnet20, "executor": executor}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(TASKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.only.split(","):
        TASKS[name](given.models, given.data)
        print()


if __name__ == "__main__":
    main()
