"""Low rank where it moves the outputs of the whole model least."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import CannotRun, CannotTune
from onnxslim.ir import Array, Model
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._lowrank import candidates
from onnxslim.passes.factorize._metric import Metric, measured
from onnxslim.passes.factorize.factorize_low_rank import FactorizeLowRank


class FactorizeTowardOutputs(FactorizeLowRank):
    """Replace weights by products of thinner ones that move the outputs of the model least.

    It is ``factorize-low-rank`` with an eye on what comes after a layer: what later layers do not
    notice may move. Gradients say what they notice (PyTorch). Convolutions become one to fewer
    channels and one of 1x1 from there. Errors, and ``energy``, are of the outputs of the model, and
    what several layers share goes where it costs these least.
    """

    name = "factorize-toward-outputs"
    needs_data = True

    def __post_init__(self) -> None:
        """Refuse what `factorize-low-rank` does, and forms that are not fitted so."""
        super().__post_init__()
        if self.form not in ("auto", "channel"):
            raise ValueError(f"form={self.form} is not fitted to outputs; use factorize-low-rank")

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given, or installed."""
        if importlib.util.find_spec("torch") is None:
            return "PyTorch: pip install 'onnxslim[tune]'"
        return super().lacking(data, importance)

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Return low rank in the sizes that the budget leaves open."""
        return candidates(layer, metric, self._wanted(layer))

    def metrics(
        self, model: Model, context: Context, layers: Sequence[Layer]
    ) -> Iterator[tuple[Layer, Metric]]:
        """Yield what outputs of layers and of the model are measured by."""
        found = _found(model, context, layers)
        for layer, metric in measured(model, context, layers):
            names = [node.outputs[0].name for node in layer.nodes]
            if isinstance(found, str):
                yield layer, replace(metric, source=f"{metric.source}; {found}")
            elif metric.moments is None or any(name not in found for name in names):
                yield layer, replace(metric, source=f"{metric.source}; no gradient is known")
            else:
                total = np.sum([found[name] for name in names], axis=0)
                yield layer, replace(metric, responses=total, source=f"{metric.source}, gradients")


def _found(model: Model, context: Context, layers: Sequence[Layer]) -> dict[str, Array] | str:
    """Return how the outputs respond to those of *layers*, or why that is not known."""
    from onnxslim.tune.responses import responses  # which imports PyTorch

    axes = {
        node.outputs[0].name: 1 if layer.is_convolution else -1
        for layer in layers
        for node in layer.nodes
        if layer.slot == 1 and node.graph is model.graph
    }
    try:
        return responses(Model.from_proto(model.proto()), context.calibration(), axes, context.seed)
    except (CannotRun, CannotTune) as error:
        return str(error)
