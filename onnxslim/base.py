"""What a pass is: a class that declares what it does before it does it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from onnxslim.errors import MissingData, PassError
from onnxslim.ir import Array, Constant, Graph, Index, Model, Node, Tensor

if TYPE_CHECKING:
    from onnxslim.data import Calibration
    from onnxslim.shapes import Facts

Precondition = Callable[[Model], "str | None"]
"""Returns None if the model qualifies, else the reason why not."""

Evaluate = Callable[[Model, Sequence[Node], Sequence[Tensor]], "dict[Tensor, Array]"]
"""Runs nodes whose inputs are all constants; see `Context.evaluate`."""

Noises = Callable[
    [Model, Collection[str], "Iterable[Mapping[str, Array]]", "int | None"], "Iterator[float]"
]
"""Measures models that differ in the values of some constants; see `Context.noises`."""

_T = TypeVar("_T")


class Effect(enum.IntEnum):
    """How far the outputs of the model may move; a pipeline has the largest of its passes."""

    EXACT = 0  # bit for bit: dropping, deduplicating
    ROUNDING = 1  # the same function, other rounding: fusing, folding
    LOSSY = 2  # another function, judged by a budget


@dataclass(frozen=True)
class HeldOut:
    """How the model answers on samples that a pass did not learn from."""

    metric: str
    """``agreement``, the share of answers that are the original's, or ``relative error``."""
    score: float

    @property
    def loss(self) -> float:
        """How much worse than the original: the share of other answers, or the error."""
        return 1 - self.score if self.metric == "agreement" else self.score


class Memory:
    """What was found out about one model, until it changes."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._model: Model | None = None
        self._found: dict[Callable[[Model], object], object] = {}

    def recall(self, model: Model, compute: Callable[[Model], _T]) -> _T:
        """Return what *compute* finds in *model*, computed once until `forget`."""
        if model is not self._model:
            self.forget()
            self._model = model
        if compute not in self._found:
            self._found[compute] = compute(model)
        return self._found[compute]  # type: ignore[return-value]

    def forget(self) -> None:
        """Drop everything, because the model changed."""
        self._model = None
        self._found.clear()


class Notebook:
    """Constants that a pass looked at in vain, in all rounds of one run."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._seen: WeakKeyDictionary[Constant, tuple[object, object]] = WeakKeyDictionary()

    def add(self, constant: Constant, question: object = None) -> None:
        """Note that the value of *constant* alone answered *question* with no."""
        self._seen[constant] = constant.held, question

    def holds(self, constant: Constant, question: object = None) -> bool:
        """Say whether that was noted, of the value that *constant* still has."""
        held, asked = self._seen.get(constant, (None, None))
        return held is constant.held and asked == question


@dataclass
class Context:
    """What the pipeline lends to a running pass."""

    data: Calibration | None = None
    seed: int = 0
    original: Model | None = None
    """What the pipeline started from; not to be changed."""
    only: Collection[str] | None = None
    """The names of the weights that the pass may change; None where it may change all."""
    importance: Mapping[str, Array] | None = None
    """Fisher's information of weights, the mean of squared gradients, by initializer."""
    declined: Counter[str] = field(default_factory=Counter)
    """Why matches were left alone, and how often."""
    places: list[tuple[str, str]] = field(default_factory=list)
    """The same, one entry a match: the node and the reason."""
    infer: Callable[[Model], Facts] | None = None
    outdate: Callable[[], None] = lambda: None
    """Is called when the facts of `infer` hold no longer."""
    run: Evaluate | None = None
    memory: Memory = field(default_factory=Memory)
    vain: Notebook = field(default_factory=Notebook)
    """What the pass need not look at again."""
    compare: Callable[[Model], float] | None = None
    measure_noise: Callable[[Model], float] | None = None
    measure_noises: Noises | None = None
    notes: list[dict[str, str | int | float | None]] = field(default_factory=list)
    """Rows of a table for the report, as plain data: what the pass measured, layer by layer."""
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    """Is told how far long work is: what, and item *done* of *total* (0 where nobody knows)."""
    calibrated: bool = False
    """Whether the pass asked for the calibration data."""
    held_out: HeldOut | None = None
    """What a pass measured that judges what it made itself."""
    _facts: Facts | None = None

    def decline(self, node: Node, reason: str) -> None:
        """Note that *node* was left alone, and why."""
        self.declined[reason] += 1
        self.places.append((node.name or f"{node.op} -> {node.outputs[0].name}", reason))

    def facts(self, model: Model) -> Facts:
        """Return what is known of the model's tensors; computed once until `forget`."""
        if self._facts is None:
            if self.infer is None:
                raise PassError("no shape inference was lent to this pass")
            self._facts = self.infer(model)
        return self._facts

    @property
    def known(self) -> Facts | None:
        """The shape facts that the pass has asked for."""
        return self._facts

    def forget(self) -> None:
        """Drop the shape facts and all else that is remembered: shapes of tensors changed."""
        self._facts = None
        self.memory.forget()
        self.outdate()

    def once(self, model: Model, compute: Callable[[Model], _T]) -> _T:
        """Return what *compute* finds in *model*, shared by passes while nothing changes.

        Ask before changing anything, and do not change what is returned.
        """
        return self.memory.recall(model, compute)

    def find(self, model: Model, operators: Collection[str]) -> list[tuple[Graph, list[Node]]]:
        """Return the nodes of *operators* by graph, in order; graphs without any are left out.

        This takes time in proportion to what is found. Ask before changing anything.
        """
        return self.once(model, Index).find(operators)

    def evaluate(
        self, model: Model, nodes: Sequence[Node], wanted: Sequence[Tensor]
    ) -> dict[Tensor, Array]:
        """Compute *wanted* by running *nodes*, in topological order, on constants alone.

        A tensor whose node onnxruntime cannot run is missing from the result.
        """
        if self.run is None:
            raise PassError("no evaluator was lent to this pass")
        return self.run(model, nodes, wanted)

    def distance(self, model: Model) -> float:
        """Return how far the outputs of *model* are from the original's, relative to their scale.

        They are compared on the calibration data, on made-up feeds where there is none. Raises
        MissingData where the original cannot be run.
        """
        if self.compare is None:
            raise PassError("no original to compare with was lent to this pass")
        return self.compare(model)

    def noise(self, model: Model) -> float:
        """Return the noise-to-signal ratio of the outputs of *model*, at the worst of them.

        That is the power of what differs from the original over the power of the original, on the
        feeds of `distance`. Raises MissingData where there is nothing to measure.
        """
        if self.measure_noise is None:
            raise PassError("no original to compare with was lent to this pass")
        return self.measure_noise(model)

    def noises(
        self,
        model: Model,
        names: Collection[str],
        variants: Iterable[Mapping[str, Array]],
        feeds: int | None = None,
    ) -> Iterator[float]:
        """Yield the `noise` of *model* with each of *variants*, values of its initializers *names*.

        It is measured on the first *feeds* only, if given. The model is loaded once, so that this
        takes less time than as many calls of `noise`.
        """
        if self.measure_noises is None:
            raise PassError("no original to compare with was lent to this pass")
        return self.measure_noises(model, names, variants, feeds)

    def calibration(self) -> Calibration:
        """Return the calibration data; raises MissingData where none was given."""
        if self.data is None:
            raise MissingData("this pass needs calibration data; give it with -c FILE")
        self.calibrated = True
        return self.data


@dataclass(frozen=True)
class Pass(ABC):
    """A named rewrite. Its dataclass fields are its options, here and on the command line."""

    name: ClassVar[str]
    effect: ClassVar[Effect]
    needs_data: ClassVar[bool] = False
    may_grow: ClassVar[bool] = False
    """Whether a larger file can be the purpose of the pass."""
    preconditions: ClassVar[tuple[Precondition, ...]] = ()
    by_layer: ClassVar[bool] = False
    """Whether it heeds `Context.only`."""
    once: ClassVar[bool] = False
    """Whether it runs in the first round alone: what it finds has no end."""
    judges: ClassVar[bool] = False
    """Whether it judges what it made on samples that it holds out (`Context.held_out`), so that no
    limit of the outputs' error stands behind it unless one is asked for."""

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given for the pass to run, and how, where these are or are not."""
        if self.needs_data and not data:
            return "calibration data; give it with -c FILE"
        return None

    @abstractmethod
    def apply(self, model: Model, context: Context) -> int:
        """Rewrite *model* in place and return how many places changed; 0 means untouched.

        After 0 it is called again only once the model or the facts that it asked for are others.
        """


@dataclass(frozen=True)
class Chosen(Pass):
    """A pass that shall change the weights of some layers only."""

    step: Pass
    weights: tuple[str, ...]
    """The names of their initializers."""

    def __post_init__(self) -> None:
        """Declare what the pass declares. Raises ValueError where it does not choose layers."""
        if not self.step.by_layer:
            raise ValueError("it does not work layer by layer, so leave out @")
        for declared in ("name", "effect", "needs_data", "may_grow", "preconditions", "once"):
            object.__setattr__(self, declared, getattr(self.step, declared))

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given."""
        return self.step.lacking(data, importance)

    def apply(self, model: Model, context: Context) -> int:
        """Apply the pass to the chosen layers."""
        context.only = frozenset(self.weights)
        return self.step.apply(model, context)


def opset_at_least(version: int) -> Precondition:
    """Ask for a minimal version of ONNX's own operator set."""

    def check(model: Model) -> str | None:
        if model.opset >= version:
            return None
        return f"needs opset {version}, the model has {model.opset}"

    return check


def holds_initializers(model: Model) -> str | None:
    """Ask for initializers that are no inputs: nodes take more bytes than small weights save."""
    if model.ir_version >= 4:
        return None
    return "needs IR version 4, for initializers of its own; --freeze-initializers goes there"
