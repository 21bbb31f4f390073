"""How far a model is from the original, and from the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from onnxslim import shapes
from onnxslim.errors import CannotTune
from onnxslim.ir import Model
from onnxslim.tune.operators.table import is_float
from onnxslim.tune.options import Options

Values = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Target:
    """A tensor to be compared."""

    name: str
    kind: str
    """``kl`` or ``mse``."""
    axis: int = 1
    """Where the classes are, for ``kl``."""


_FORMS = {"Softmax": "probabilities", "LogSoftmax": "logarithms"}


def form(model: Model, name: str) -> str:
    """Say whether an output is probabilities, their logarithms, or logits."""
    for tensor in model.graph.outputs:
        if tensor.name == name and tensor.inputs:
            return _FORMS.get(tensor.inputs[0].operator, "logits")
    return "logits"


def targets(model: Model, options: Options, classes: int = 0) -> list[Target]:
    """Return what of *model* is compared: its outputs of floats, and features.

    Where there is one output, a vector for each sample of at least *classes* numbers (2 or more),
    they are logits: labels that name so many classes say so.
    """
    facts = shapes.infer(model)
    outputs = [t for t in model.graph.outputs if is_float(facts.elem_type(t))]
    if not outputs:
        raise CannotTune("no output of the model is of floats: there is nothing to descend on")
    shape = facts.shape(outputs[0])
    scores = (
        len(outputs) == 1
        and classes > 1
        and shape is not None
        and len(shape) == 2
        and isinstance(shape[1], int)
        and shape[1] >= classes
    )
    found = [_target(model, tensor, options, scores) for tensor in outputs]
    return [*found, *(Target(name, "mse") for name in options.features)]


def _target(model: Model, tensor: object, options: Options, scores: bool) -> Target:
    name, inputs, outputs = (getattr(tensor, key) for key in ("name", "inputs", "outputs"))
    producer = inputs[0] if inputs else None
    classes = producer is not None and producer.operator in _FORMS
    axis = 1 if options.axis is None else options.axis
    if options.axis is None and producer is not None and classes:
        axis = int(producer.attr("axis", -1 if model.opset >= 13 else 1))
    decided = any(node.operator == "ArgMax" for node in outputs)
    likely = "kl" if classes or decided or scores else "mse"
    return Target(name, likely if options.loss == "auto" else options.loss, axis)


@dataclass(frozen=True)
class Comparison:
    """Compares the outputs of a model with the original's, and with labels."""

    targets: Sequence[Target]
    student: Mapping[str, str]
    """What each output of the tuned model is, see `form`."""
    teacher: Mapping[str, str]
    powers: Mapping[str, float]
    """Mean square of each tensor of the original, in units of which ``mse`` is measured."""
    options: Options

    def loss(self, found: Values, wanted: Values, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the loss of one batch."""
        weight = self.options.labels
        total = torch.zeros(())
        if weight < 1:
            apart = [self._distance(target, found, wanted) for target in self.targets]
            total = total + (1 - weight) * torch.stack(apart).mean()
        if weight > 0 and labels is not None:
            total = total + weight * self._cross_entropy(found, labels)
        return total

    def metric(self, found: Values, wanted: Values, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the share of right answers, or of agreement, or else the relative error."""
        target = self.targets[0]
        if labels is not None:
            return (found[target.name].argmax(target.axis) == labels).double().mean()
        if target.kind == "kl":
            pair = (v[target.name].argmax(target.axis) for v in (found, wanted))
            return torch.eq(*pair).double().mean()
        return self._distance(target, found, wanted).double().sqrt()

    @property
    def metric_name(self) -> str:
        """What `metric` measures."""
        if self.options.labels:
            return "accuracy"
        return "agreement" if self.targets[0].kind == "kl" else "relative error"

    def _distance(self, target: Target, found: Values, wanted: Values) -> torch.Tensor:
        ours, theirs = found[target.name], wanted[target.name]
        if target.kind == "mse":
            return functional.mse_loss(ours, theirs.to(ours.dtype)) / self.powers[target.name]
        heat, axis = self.options.temperature, target.axis
        ours, theirs = (
            torch.log_softmax(_logits(value, forms.get(target.name, "logits")) / heat, axis)
            for value, forms in ((ours, self.student), (theirs, self.teacher))
        )
        return (theirs.exp() * (theirs - ours)).sum(axis).mean() * heat**2

    def _cross_entropy(self, found: Values, labels: torch.Tensor) -> torch.Tensor:
        target = self.targets[0]
        logits = _logits(found[target.name], self.student.get(target.name, "logits"))
        return functional.cross_entropy(logits.movedim(target.axis, 1), labels)


def _logits(value: torch.Tensor, kind: str) -> torch.Tensor:
    """Return logits; probabilities of zero become small ones."""
    if kind != "probabilities":
        return value
    return value.clamp(min=torch.finfo(value.dtype).tiny).log()
