"""Tuning as a step between passes."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Literal

from onnxslim.base import Context, Effect, HeldOut, Pass
from onnxslim.errors import MissingData
from onnxslim.ir import Constant, Model


@dataclass(frozen=True)
class Tune(Pass):
    """Tune the float weights toward the outputs of the original, by gradient descent.

    It runs once, where it stands in the pipeline, on the calibration data. With *sparsity*, the
    weights that are smallest for their layer become zeros on the way (docs/tune.md).
    """

    name = "tune"
    effect = Effect.LOSSY
    needs_data = True
    once = True
    judges = True

    epochs: int = 5
    batch: int = 64
    lr: float = 0.01
    warmup: float = 0.0
    loss: Literal["auto", "kl", "mse"] = "auto"
    temperature: float = 1.0
    labels: float = 0.0
    sparsity: float = 0.0
    l1_gamma: float = 0.0
    shift: int = 0
    mirror: bool = False
    held_out: float = 0.1
    patience: int = 0

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given, or installed."""
        if importlib.util.find_spec("torch") is None:
            return "PyTorch: pip install 'onnxslim[tune]'"
        return super().lacking(data, importance)

    def apply(self, model: Model, context: Context) -> int:
        """Tune the model as it would be written, and take over the values of the best epoch."""
        from onnxslim.tune import Epoch, Options, Tuner  # which import PyTorch

        if context.original is None:
            raise MissingData("tune needs the original model to learn from")
        tuner = Tuner(
            model.proto(), context.original, context.calibration(),
            Options(seed=context.seed, **asdict(self)),
        )  # fmt: skip

        def show(epoch: Epoch) -> None:
            loss = f"{epoch.held_out.loss:.3g}"
            context.progress(f"tuning, loss {loss}", epoch.number, self.epochs)

        result = tuner.run(progress=show)
        context.notes.append(
            {"tuned": result.tuned, "epochs": len(result.history), "metric": result.metric,
             "before": result.before.metric, "after": result.after.metric}
        )  # fmt: skip
        if result.metric != "accuracy":  # which says nothing of the original
            context.held_out = HeldOut(result.metric, result.after.metric)
        return _take_over(model, result.model)


def _take_over(model: Model, tuned: Model) -> int:
    """Give the constants of *model*, also those that passes made, the values of *tuned*."""
    found = {t.name: t.values for t in tuned.graph.initializers if isinstance(t, Constant)}
    changes = 0
    for tensor in model.constants():
        if tensor.name in found:
            values = found[tensor.name]
            if values.tobytes() != tensor.values.tobytes():
                tensor.values = values
                changes += 1
    return changes
