"""What factorized weights save, cost, and do to the outputs.

    python -m benchmarks.factorize MODELS DATA [--parts PART,...] [--only NAME ...]

``metric`` compares plain SVD with SVD in the metric of the data at the same ranks, on samples that
were not used for calibration: the root of noise over signal, and the share of right answers where
there are labels. ``shared`` is the same number of weights for the whole model, which its layers
share; there, gradients and fitting the layers again follow. ``speed`` and ``convolutions`` tell how
many times as fast as the dense layers that runs which factorize-low-rank makes of them, by
processor time, both by turns; ``dense`` where it keeps them. ``models`` factorizes every model of a
folder at ratio 0.5 and tells what became of it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.layers import convolutions, product, session, speedup
from onnxslim import Calibration, Model, Pass, Pipeline, api, parse
from onnxslim.errors import OnnxslimError
from onnxslim.passes.factorize.factorize_low_rank import FactorizeLowRank
from onnxslim.passes.factorize.refit_layers import RefitLayers
from onnxslim.steps.factorize_toward_outputs import FactorizeTowardOutputs
from onnxslim.validate import Reference

Array = npt.NDArray[Any]
RATIOS = (0.75, 0.5, 0.25)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# Whitened against plain ---------------------------------------------------------------------------


def digits(data: Path, part: str) -> tuple[Array, Array]:
    """Return handwritten digits and what they are."""
    held = np.load(data / "mnist.npz")
    x = held[f"x_{part}"][:10_000, None].astype(np.float32) / 255
    return (x - 0.1307) / 0.3081, held[f"y_{part}"][:10_000]


def photographs(data: Path, part: str) -> tuple[Array, Array]:
    """Return photographs, normalised as torchvision does, and what they show."""
    held, kind = np.load(data / "cifar10.npz"), "calib" if part == "train" else "test"
    x = held[f"x_{kind}"][:512].astype(np.float32) / 255
    x = (x - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32)
    return x.transpose(0, 3, 1, 2), held[f"y_{kind}"][:512]


TRAINED = {
    "seeds/lenet300": digits,
    "seeds/mlp625": digits,
    "classify/cifar10_resnet56_bn": photographs,
}
BERT = "transformer/tf_bert_qa_tiny"


_WAYS = ("plain", "whitened", "toward outputs", "toward outputs and refitted")


class Case:
    """A model after the lossless recipe, with samples to calibrate on and others to test with."""

    def __init__(self, name: str, models: Path, data: Path) -> None:
        self.model, _ = Pipeline(parse("lossless"), check="off")(
            Model.load(models / f"{name}.onnx")
        )
        self.labels: Array | None = None
        if name == BERT:
            self.calibration = api.calibration("random:64", self.model, None, 0)
            self.test = api.calibration("random:16", self.model, None, 1)
        else:
            (self.input,) = (t.name for t in self.model.graph.inputs)
            self.calibration = self._feeds(TRAINED[name](data, "train")[0])
            x, self.labels = TRAINED[name](data, "test")
            self.test = self._feeds(x)
        self.reference = Reference(self.model.to_bytes(), self.model, self.test)

    def _feeds(self, x: Array) -> Calibration:
        return Calibration.of([{self.input: x[i : i + 64]} for i in range(0, len(x) - 63, 64)])

    def apply(self, way: str, **options: Any) -> Model:
        """Return the model factorized: plainly, or in the metric of the layer's or its outputs."""
        kind = FactorizeTowardOutputs if "toward outputs" in way else FactorizeLowRank
        steps: list[Pass] = [kind(form="channel", **options)]
        steps += [RefitLayers()] if "refitted" in way else []
        return Pipeline(tuple(steps), check="off")(
            self.model, None if way == "plain" else self.calibration
        )[0]

    def judged(self, model: Model) -> str:
        """Return noise over signal at the worst output, and right answers in percent."""
        noise = math.sqrt(self.reference.noise(model.to_bytes()))
        if self.labels is None:
            return f"{noise:.4f}"
        answering = session(model)
        right = [answering.run(None, dict(feed))[0].argmax(1) for feed in self.test]
        found = np.concatenate(right)
        return f"{noise:.4f} ({100 * float((found == self.labels[: len(found)]).mean()):.1f} %)"


def part_metric(given: argparse.Namespace) -> Iterator[str]:
    """Plain and whitened SVD."""
    titles = ", shared | ".join(_WAYS)
    yield f"| model | ratio | plain | whitened | {titles}, shared |"
    for name in (*TRAINED, BERT):
        if given.only and name not in given.only:
            continue
        case = Case(name, given.models, given.data)
        for ratio in RATIOS:
            plain, aware = (case.apply(way, ratio=ratio) for way in _WAYS[:2])
            total = Pipeline((), check="off")(aware)[1].before.parameters
            shared = [case.apply(way, parameters=total) for way in _WAYS]
            cells = " | ".join(case.judged(model) for model in (plain, aware, *shared))
            yield f"| {name} | {ratio} | {cells} |"


# Speed --------------------------------------------------------------------------------------------


def part_speed(given: argparse.Namespace) -> Iterator[str]:
    """Low rank at several shares of a layer's size."""
    yield "| size | batch | " + " | ".join(f"rank 1/{n}" for n in (2, 4, 8, 16)) + " |"
    for size in (256, 512, 1024, 2048, 4096):
        weight = np.random.default_rng(size).standard_normal((size, size))
        ranks = [size // share for share in (2, 4, 8, 16)]
        for batch in (1, 8, 64):
            before, shape = product(weight, batch), (batch, size)
            cells = [_speed(before, shape, rank, given.seconds) for rank in ranks]
            yield f"| {size} | {batch} | {' | '.join(cells)} |"


def part_convolutions(given: argparse.Namespace) -> Iterator[str]:
    """Three convolutions of 3 x 3, in each form."""
    yield "| channels | side | " + " | ".join(CONVOLUTIONS) + " |"
    for channels, side in ((16, 32), (32, 32), (64, 56), (128, 28), (256, 14), (512, 7)):
        dice = np.random.default_rng(channels)
        weights = (dice.standard_normal((channels, channels, 3, 3)) for _ in range(3))
        before, shape = convolutions(tuple(weights), side), (1, channels, side, side)
        cells = (
            _speed(before, shape, int(channels * share), given.seconds, form)
            for form, share in CONVOLUTIONS.values()
        )
        yield f"| {channels} | {side} | {' | '.join(cells)} |"


CONVOLUTIONS = {
    "channel, 1/2": ("channel", 1 / 2), "Tucker, 3/4": ("tucker", 3 / 4),
    "Tucker, 1/2": ("tucker", 1 / 2), "Tucker, 1/4": ("tucker", 1 / 4),
    "spatial, 1": ("spatial", 1), "spatial, 1/2": ("spatial", 1 / 2),
    "separable, 1": ("separable", 1),
}  # fmt: skip
"""Forms and ranks, as a share of the channels."""


def _speed(
    before: Model, shape: tuple[int, ...], rank: int, seconds: float, form: Any = "auto"
) -> str:
    """Return how many times as fast the layers of a rank are, or that they stay dense."""
    step = FactorizeLowRank(rank=rank, aim="speed", form=form)
    after, report = Pipeline((step,), check="off")(before)
    return f"{speedup(before, after, shape, seconds):.2f}" if report.changed else "dense"


# Every model --------------------------------------------------------------------------------------


def part_models(given: argparse.Namespace) -> Iterator[str]:
    """Ratio 0.5 of all models that have a layer to factorize."""
    yield "| model | layers | bytes | largest error of a layer | seconds | remarks |"
    for path in sorted(given.models.rglob("*.onnx")):
        name = str(path.relative_to(given.models).with_suffix(""))
        if given.only and name not in given.only:
            continue
        start = time.process_time()
        try:
            before = Model.load(path)
            steps = parse("factorize-low-rank{ratio=0.5}")
            after, report = Pipeline(steps, budget=1e9)(before)  # which has it checked, too
        except OnnxslimError as error:
            yield f"| {name} | - | - | - | - | {str(error).splitlines()[0][:80]} |"
            continue
        (step,) = report.steps
        if not step.changes:
            continue
        worst = max(note["error"] for note in step.notes)
        share = report.after.bytes / report.before.bytes
        left = orphans(after)
        remarks = [*report.warnings, *([f"{left} orphans"] if left else [])]
        seconds = time.process_time() - start
        yield (
            f"| {name} | {step.changes} | {share:.2f} | {worst:.3f} | {seconds:.1f} "
            f"| {'; '.join(remarks)[:80]} |"
        )


def orphans(model: Model) -> int:
    """Count the initializers of the main graph that nobody reads."""
    proto = model.proto()
    read = {name for node in proto.graph.node for name in node.input}
    read |= {output.name for output in proto.graph.output}
    if any(a.HasField("g") for node in proto.graph.node for a in node.attribute):
        return 0
    return sum(tensor.name not in read for tensor in proto.graph.initializer)


PARTS = {
    "metric": part_metric,
    "speed": part_speed,
    "convolutions": part_convolutions,
    "models": part_models,
}


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=0.5, help="for every ratio")
    given = parser.parse_args()
    for part in given.parts.split(","):
        for number, line in enumerate(PARTS[part](given)):
            print(line, flush=True)
            if not number:
                print("|" + " --- |" * (line.count("|") - 1), flush=True)


if __name__ == "__main__":
    main()
