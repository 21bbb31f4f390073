"""Is it still a model, and still the same model?

`check_structure` asks the first question, `Reference` the second: it runs the original on a few
feeds without onnxruntime's optimizations and compares what a candidate computes on them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.checker
from onnx import GraphProto, ModelProto, TensorProto, helper

from onnxslim import shapes
from onnxslim.base import Effect
from onnxslim.data import Calibration, Feed, InputSpec, generate, input_specs
from onnxslim.errors import BrokenModel, CannotRun, MissingData
from onnxslim.ir import Array, Constant, Model, Node, Tensor, Variable, elem_type, weights, wire
from onnxslim.runtime import Session, Source

# Structure ----------------------------------------------------------------------------------------


def check_structure(before: Model, after: Model, source: Source) -> None:
    """Raise BrokenModel unless *after* is valid ONNX with the interface of *before*.

    *source* is *after*, serialised. It must satisfy onnx's checker as far as *before* does: with
    shape inference, without, or not at all. What that checker misreads is put in other words.
    """
    _check_interface(before, after)
    content = source if isinstance(source, bytes) else _without_weights(after)
    fault = _fault(content, full=True)
    if fault is None:
        return
    original = _without_weights(before)
    if _fault(original, full=True) is not None:
        hopeless = _fault(original, full=False) is not None
        fault = None if hopeless else _fault(content, full=False)
    if fault is not None and _fault(_clearly(after), full=True) is not None:
        raise BrokenModel(f"the result is not valid ONNX: {fault}")


def _clearly(model: Model) -> ModelProto:
    proto = _without_weights(model)
    shapes.say_clearly(proto)
    shapes.hide_misread(proto)
    return proto


def _check_interface(before: Model, after: Model) -> None:
    old, new = _interface(before), _interface(after)
    for kind in ("input", "output"):
        names, found = list(old[kind]), list(new[kind])
        if names != found:
            raise BrokenModel(f"the {kind}s {_listed(names)} became {_listed(found)}")
        for name, declared in old[kind].items():
            if new[kind][name] != declared:
                types = (helper.printable_type(t) for t in (declared, new[kind][name]))
                raise BrokenModel(f"{kind} {name!r} was {next(types)}, became {next(types)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"


def _interface(model: Model) -> dict[str, dict[str, onnx.TypeProto]]:
    """Return the declared types of inputs and outputs; fixed initializers are no inputs."""
    inputs, outputs = model.interface()
    return {
        "input": {info.name: info.type for info in inputs},
        "output": {info.name: info.type for info in outputs},
    }


def _fault(content: ModelProto | bytes, full: bool) -> str | None:
    """Return what onnx's checker says against a model, in one line."""
    try:
        onnx.checker.check_model(content, full_check=full)
    except Exception as error:  # the checker's errors have no common base
        text = " ".join(str(error).split())
        return text if len(text) <= 200 else f"{text[:199]}…"
    return None


def _without_weights(model: Model) -> ModelProto:
    """Export with inputs in place of large constants, which the checker would want to read."""
    proto = model.skeleton()
    hoisted = {info.name: info for info in proto.graph.input}
    graphs = [proto.graph]
    for graph in graphs:
        tensors = [_hoistable(node) for node in graph.node]
        nodes = [n for n, t in zip(graph.node, tensors, strict=True) if not _hoist(t, hoisted)]
        kept = [tensor for tensor in graph.initializer if not _hoist(tensor, hoisted)]
        for items, rest in ((graph.node, nodes), (graph.initializer, kept)):
            if len(rest) < len(items):
                del items[:]
                items.extend(rest)  # type: ignore[arg-type]
        graphs += _subgraphs(graph)
    del proto.graph.input[:]
    proto.graph.input.extend(hoisted.values())
    return weights.filled(proto, model.store)


def _hoistable(node: onnx.NodeProto) -> TensorProto | None:
    """Return the tensor of a Constant node, named as its output."""
    values = [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    if node.op_type != "Constant" or len(values) != 1:
        return None
    tensor = TensorProto()
    tensor.CopyFrom(values[0])
    tensor.name = node.output[0]
    return tensor


def _hoist(tensor: TensorProto | None, inputs: dict[str, onnx.ValueInfoProto]) -> bool:
    """Declare *tensor* as an input where its bytes are elsewhere; say whether that was done."""
    if tensor is None or not wire.is_marked(tensor):
        return False
    info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    known = inputs.setdefault(tensor.name, info)
    return known.type == info.type


def _subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


# Differences --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How far a candidate's outputs are from the original's, at the worst output."""

    max_abs: float
    """Largest absolute difference."""
    relative: float
    """The same, divided by the largest finite magnitude of the output; infinite where integers,
    texts, or the places of infinities and NaN differ."""
    onnxruntime: float | None
    """What onnxruntime's own optimizations change on the original, relative: for the same feed, or
    where nobody had to know, for the first; None where it does not run with them, and where nobody
    had to know and to measure it takes long."""
    output: str
    """Name of the worst output."""
    allowed: float
    """The largest relative difference that still is rounding (0 where bits must agree)."""
    outputs: tuple[Difference, ...] = ()
    """The same for each output alone."""

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed."""
        return self.relative <= self.allowed

    def as_dict(self) -> dict[str, float | str | None]:
        """Return plain data of the worst output."""
        return {key: value for key, value in vars(self).items() if key != "outputs"}


class _Error(NamedTuple):
    max_abs: float = 0.0
    relative: float = 0.0
    identical: bool = True
    """Whether the bits agree, NaN being NaN."""

    def __or__(self, other: _Error) -> _Error:
        return _Error(
            max(self.max_abs, other.max_abs),
            max(self.relative, other.relative),
            self.identical and other.identical,
        )


_NONE, _TOTAL = _Error(), _Error(math.inf, math.inf, False)


def _error(expected: Any, found: Any, output: str) -> _Error:
    """Measure one output. Raises BrokenModel where types, shapes or lengths disagree."""
    if isinstance(expected, np.ndarray):
        if not isinstance(found, np.ndarray):
            raise BrokenModel(f"output {output!r} is no tensor any more")
        if (expected.dtype, expected.shape) != (found.dtype, found.shape):
            was, now = (f"{a.dtype}{list(a.shape)}" for a in (expected, found))
            raise BrokenModel(f"output {output!r} was {was}, became {now}")
        return _array_error(expected, found)
    if type(expected) is not type(found):
        was, now = type(expected).__name__, type(found).__name__
        raise BrokenModel(f"output {output!r} was a {was}, became a {now}")
    if isinstance(expected, list):
        if len(expected) != len(found):
            raise BrokenModel(f"output {output!r} had {len(expected)} items, has {len(found)}")
        pairs = zip(expected, found, strict=True)
        return _worst_of(_error(e, f, output) for e, f in pairs)
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return _TOTAL
        values = ([v[key] for key in expected] for v in (expected, found))
        return _array_error(*map(np.asarray, values))
    return _NONE if expected == found else _TOTAL


def distance(expected: Any, found: Any, output: str) -> tuple[float, bool]:
    """Return how far *found* is from *expected*, relative to its scale, and whether bits agree.

    Infinite where integers, texts, or the places of infinities and NaN differ. Raises BrokenModel
    where types, shapes or lengths disagree.
    """
    error = _error(expected, found, output)
    return error.relative, error.identical


def _worst_of(errors: Iterable[_Error]) -> _Error:
    worst = _NONE
    for error in errors:
        worst |= error
    return worst


def _is_inexact(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("float", "bfloat", "complex"))


def _array_error(expected: Array, found: Array) -> _Error:
    if not _is_inexact(expected.dtype):
        return _discrete_error(expected, found)
    same_bits = _same_bits(expected, found)
    if same_bits.all():
        return _NONE
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    old, new = expected[~same_bits].astype(wide), found[~same_bits].astype(wide)
    if not np.isfinite(old).all() or not np.isfinite(new).all():
        return _TOTAL
    magnitudes = np.abs(expected.astype(wide))
    scale = float(magnitudes.max(where=np.isfinite(magnitudes), initial=0.0))
    largest = float(np.abs(old - new).max())
    return _Error(largest, largest / scale if scale else largest, identical=False)


def _same_bits(expected: Array, found: Array) -> Array:
    """Say where two arrays hold the same bits, or both NaN."""
    unit = {1: np.uint8, 2: np.uint16}.get(expected.dtype.itemsize, np.uint32)
    bits = (np.ascontiguousarray(a).reshape(*a.shape, 1).view(unit) for a in (expected, found))
    same = np.equal(*bits).all(axis=-1)
    return np.asarray(same | (np.isnan(expected) & np.isnan(found)))


def _discrete_error(expected: Array, found: Array) -> _Error:
    if np.array_equal(expected, found):
        return _NONE
    if expected.dtype.kind in "OUS":
        return _TOTAL
    distance = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    return _Error(float(distance.max()), math.inf, identical=False)


# The original -------------------------------------------------------------------------------------

_USER_FEEDS, _MADE_FEEDS = 8, 3
_CHAOTIC_FEEDS = 6
"""After so many feeds that magnify rounding, no others are looked for."""
_SLOW = 3.0
"""A model whose run takes more seconds is run on one feed."""
_MANY = 4_000
"""To optimize more nodes takes onnxruntime seconds: it does so where the verdict hangs on it."""
_ROUNDING, _HALF_ROUNDING = 1e-5, 1e-2
_MARGIN = 4
"""So many times what onnxruntime's own optimizations change is still rounding."""
_FUSED = (
    "Attention",
    "DecoderMaskedMultiHeadAttention",
    "EmbedLayerNormalization",
    "GroupQueryAttention",
    "MultiHeadAttention",
    "QAttention",
)
"""Operators in which onnxruntime fuses many nodes around a Softmax."""
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass
class _Case:
    """A feed and what the original makes of it."""

    feed: Feed
    expected: dict[str, Any]
    seconds: float
    own: dict[str, float] | None = None
    """Per output, what onnxruntime's own optimizations change, relative; None until measured."""
    refused: str | None = None
    """Why the original does not run with optimizations."""

    @property
    def informative(self) -> bool:
        """Whether some output holds anything but NaN and infinities."""
        return any(
            not isinstance(value, np.ndarray)
            or not _is_inexact(value.dtype)
            or bool(np.isfinite(value).any())
            for value in self.expected.values()
        )

    @property
    def own_largest(self) -> float | None:
        """The largest finite change over all outputs."""
        if self.own is None:
            return None
        return max((change for change in self.own.values() if math.isfinite(change)), default=0.0)


@dataclass
class _Found:
    """What a candidate gave at one optimization level."""

    optimize: bool
    errors: list[tuple[_Case, dict[str, _Error]]] = field(default_factory=list)
    kernels: Counter[str] | None = None
    """What onnxruntime computed; None where nobody wants to know."""
    failures: list[tuple[_Case, str]] = field(default_factory=list)


class Reference:
    """The original model, run without optimizations on a few feeds; compares candidates with it.

    ``reason`` says why no comparison is possible, else it is None. ``note`` says which outputs are
    random and therefore not compared. ``count`` is the number of feeds, which are made up where
    ``synthetic`` is true.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        data: Calibration | None = None,
        seed: int = 0,
        budget: float = 60.0,
    ) -> None:
        """Run the original *model*, serialised as *source*.

        The feeds are the first of *data*, else made up from *seed*; none is added once their runs
        have taken *budget* seconds, or one took more than 3. Raises DataError when *data* does not
        fit the model.
        """
        self.synthetic = data is None
        self.reason: str | None = None
        self.note: str | None = None
        self.unfused: str | None = None
        """What onnxruntime fuses in the original and not in what was compared last."""
        self._fusible = any(node.operator == "Softmax" for node in model.nodes())
        self._kernels: Counter[str] | None = None
        self._source, self._budget = source, budget
        self._is_long = sum(1 for _ in model.nodes()) > _MANY
        self._rounding = _HALF_ROUNDING if _computes_in_halves(model) else _ROUNDING
        self._cases: list[_Case] = []
        self._random: set[str] = set()
        try:
            session = Session(source, optimize=False)
        except CannotRun as error:
            self.reason = f"onnxruntime cannot load the original: {error}"
            return
        specs = input_specs(model.skeleton())
        if data is None:
            self._run_made(session, bounded(specs, model), seed)
        else:
            feeds = itertools.islice(data.fitted(specs), _USER_FEEDS)
            self._cases = list(self._run(session, feeds))
        if self._cases:
            self._find_random(session)

    @property
    def count(self) -> int:
        """Number of feeds that candidates are compared on."""
        return len(self._cases)

    def _run_made(self, session: Session, specs: Sequence[InputSpec], seed: int) -> None:
        """Collect feeds that run, of at least two sizes where sizes are free.

        Feeds on which the original itself magnifies rounding are taken if there are no others, and
        those that tell nothing at the very last.
        """
        cases, chaotic, poor = list[_Case](), list[_Case](), list[_Case]()
        seen = list[Any]()
        free = any(_is_free(spec) for spec in specs)

        def candidates() -> Iterator[Feed]:
            for feed in generate(specs, seed):
                repeated = _sizes(feed) in seen and len(seen) > len(set(seen))
                if not (free and repeated):
                    yield feed

        for case in self._run(session, candidates()):
            if not case.informative:
                poor.append(case)
            elif not self._is_calm(session, case):
                chaotic.append(case)
            else:
                seen.append(_sizes(case.feed))
                cases.append(case)
            if len(cases) == _MADE_FEEDS or len(chaotic) == _CHAOTIC_FEEDS:
                break
        if len(cases) < (2 if free else 1):
            cases += chaotic
        self._cases = (cases or poor)[:_MADE_FEEDS]

    def _is_calm(self, session: Session, case: _Case) -> bool:
        """Say whether the outputs stay where they are when the last bit of the inputs changes."""
        nudged = {name: _nudged(value) for name, value in case.feed.items()}
        same = all(nudged[name] is value for name, value in case.feed.items())
        if same or case.seconds > _SLOW:
            return True
        try:
            errors = self._errors(case, session.run(nudged))
        except (CannotRun, BrokenModel):
            return False
        return all(error.relative <= self._rounding for error in errors.values())

    def _run(self, session: Session, feeds: Iterable[Feed]) -> Iterator[_Case]:
        """Yield the feeds that run, until the time is up."""
        begin, ran, reason = time.monotonic(), 0, "there is no feed for its inputs"
        for feed in feeds:
            start = time.monotonic()
            try:
                expected = session.run(feed)
            except CannotRun as error:
                reason = str(error)
            else:
                ran += 1
                case = _Case(feed, expected, time.monotonic() - start)
                yield case
                if case.seconds > _SLOW:
                    break
            if time.monotonic() - begin > self._budget:
                break
        if not ran:
            kind = "made-up feed" if self.synthetic else "given feed"
            self.reason = f"onnxruntime runs the original on no {kind}: {reason}"

    def _find_random(self, session: Session) -> None:
        """Run the first feed again; what differs is random."""
        first = self._cases[0]
        try:
            again = session.run(first.feed)
        except CannotRun as error:
            self.reason = f"onnxruntime does not run the original twice: {error}"
            return
        for name, value in first.expected.items():
            if not repeats(value, again[name], name):
                self._random.add(name)
        if self._random:
            names = ", ".join(sorted(self._random))
            self.note = f"random from run to run, not compared: {names}"
            if len(self._random) == len(first.expected):
                self.reason = "every output of the original is random"

    def compare(self, candidate: Source, effect: Effect, both: bool = True) -> Difference:
        """Return how far *candidate* is from the original, at its worst output.

        It is run without optimizations, and with all of them where *both*. An EXACT *effect* asks
        for equal bits in the first of these, unless the model has half precision: onnxruntime
        computes that in single precision, and rounds in other places when nodes go. Everything else
        may move as much as rounding does: by 1e-5 of an output's scale (1e-2 in half precision), or
        four times what onnxruntime's own optimizations change. Raises BrokenModel when the
        candidate does not load or run where the original does, or gives outputs of other types or
        shapes. Call it only where `reason` is None.
        """
        found = [self._try(candidate, optimize) for optimize in (False, True)[: 1 + both]]
        self._measure_own(found, effect)
        self.unfused = self._lost(found[-1].kernels)
        for level in found:
            for case, reason in level.failures:
                if not level.optimize or case.refused is None:
                    when = " with onnxruntime's optimizations" if level.optimize else ""
                    raise BrokenModel(f"the result does not run{when}: {reason}")
        worst: dict[str, Difference] = {}
        for one in self._differences(found, effect):
            worst[one.output] = max(one, worst.get(one.output, one), key=_excess)
        none = Difference(0.0, 0.0, None, "", self._rounding)
        return replace(
            max(worst.values(), key=_excess, default=none), outputs=tuple(worst.values())
        )

    def noise(self, candidate: Source) -> float:
        """Return the noise-to-signal ratio of *candidate*: powers over all feeds, worst output.

        Only outputs of floats count. Raises MissingData where there is none, BrokenModel when the
        candidate does not run. Call it only where `reason` is None.
        """
        return next(self.noises(candidate, [{}]))

    def noises(
        self, candidate: Source, variants: Iterable[Mapping[str, Array]], feeds: int | None = None
    ) -> Iterator[float]:
        """Yield what `noise` returns for each of *variants*, values of further inputs.

        It is measured on the first *feeds* only, if given.
        """
        try:
            session = Session(candidate, optimize=False)
            for variant in variants:
                yield self._noise(session, variant, self._cases[:feeds])
        except CannotRun as error:
            raise BrokenModel(f"the result does not run: {error}") from error

    def _noise(
        self, session: Session, variant: Mapping[str, Array], cases: Sequence[_Case]
    ) -> float:
        powers: dict[str, Array] = {}
        for case in cases:
            outputs = session.run({**case.feed, **variant})
            for name, value in case.expected.items():
                if name not in self._random and _is_float_array(value):
                    found = _powers(value, outputs[name])
                    powers[name] = powers[name] + found if name in powers else found
        if not powers:
            raise MissingData("the model has no output of floats to measure noise at")
        return max(_ratio(*map(float, pair)) for pair in powers.values())

    def _try(self, candidate: Source, optimize: bool) -> _Found:
        """Run a candidate on every feed."""
        found = _Found(optimize)
        profile = optimize and self._fusible
        try:
            session = Session(candidate, optimize, profile=profile)
        except CannotRun as error:
            found.failures = [(case, str(error)) for case in self._cases]
            return found
        for case in self._cases:
            try:
                outputs = session.run(case.feed)
            except CannotRun as error:
                found.failures.append((case, str(error)))
                continue
            found.errors.append((case, self._errors(case, outputs)))
            if profile and found.kernels is None:
                found.kernels = session.kernels()
        return found

    def fuses_less(self, candidate: Source) -> str | None:
        """Return what onnxruntime fuses in the original and not in *candidate*; None if nothing.

        Call it only after `compare`. Raises BrokenModel when the candidate does not run.
        """
        if not self._kernels:
            return None
        try:
            session = Session(candidate, optimize=True, profile=True)
            session.run(self._cases[0].feed)
        except CannotRun as error:
            raise BrokenModel(f"the result does not run: {error}") from error
        return self._lost(session.kernels())

    def _lost(self, kernels: Counter[str] | None) -> str | None:
        if kernels is None or self._kernels is None:
            return None
        lost = Counter({op: self._kernels[op] - kernels[op] for op in _FUSED})
        total, before = kernels.total(), self._kernels.total()
        if not +lost or total <= before:
            return None
        names = ", ".join(f"{count} {op}" for op, count in (+lost).items())
        return f"onnxruntime would run {total} operators, not {before}, and fuse {names} less"

    def _errors(self, case: _Case, outputs: Mapping[str, Any]) -> dict[str, _Error]:
        errors: dict[str, _Error] = {}
        for name, value in case.expected.items():
            if name not in outputs:
                raise BrokenModel(f"output {name!r} is gone")
            if name not in self._random:
                errors[name] = _error(value, outputs[name], name)
        return errors

    def _measure_own(self, found: Sequence[_Found], effect: Effect) -> None:
        """Run the original with optimizations on the feeds for which it matters."""
        first = self._cases[0]
        wanted = set() if self._is_long or first.seconds > _SLOW else {id(first)}
        for level in found:
            wanted.update(id(case) for case, _ in level.failures if level.optimize)
            if level.optimize or effect is not Effect.EXACT:
                wanted.update(
                    id(case)
                    for case, errors in level.errors
                    if any(error.relative > self._rounding for error in errors.values())
                )
        cases = [c for c in self._cases if id(c) in wanted and c.own is None and c.refused is None]
        if not cases:
            return
        try:
            session = Session(self._source, optimize=True, profile=self._fusible)
        except CannotRun as error:
            for case in self._cases:
                case.refused = str(error)
            return
        for case in cases:
            try:
                outputs = session.run(case.feed)
                if self._fusible and self._kernels is None:
                    self._kernels = session.kernels()
                errors = self._errors(case, outputs)
            except (CannotRun, BrokenModel) as error:
                case.refused = str(error)
            else:
                case.own = {name: error.relative for name, error in errors.items()}

    def _differences(self, found: Sequence[_Found], effect: Effect) -> Iterator[Difference]:
        for level in found:
            halves = self._rounding != _ROUNDING
            exact = effect is Effect.EXACT and not level.optimize and not halves
            for case, errors in level.errors:
                own = self._cases[0].own_largest if case.own is None else case.own_largest
                for name, error in errors.items():
                    relative, allowed = error.relative, self._allowed(case, name)
                    if exact:
                        allowed = 0.0
                        if not error.identical:  # 0 and -0 are no distance apart
                            relative = max(relative, math.ulp(0.0))
                    yield Difference(error.max_abs, relative, own, name, allowed)

    def _allowed(self, case: _Case, output: str) -> float:
        if case.own is None:
            return self._rounding
        own = max(case.own_largest or 0.0, case.own[output])
        return max(self._rounding, _MARGIN * own)


def adjustable(model: Model, names: Collection[str]) -> Model:
    """Return *model* with the initializers *names* as inputs too, whose values they then are."""
    skeleton = model.skeleton()
    for tensor in skeleton.graph.initializer:
        if tensor.name in names:
            made = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            skeleton.graph.input.append(made)
    return Model(skeleton, model.store)


def _is_float_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and _is_inexact(value.dtype)


def _powers(expected: Array, found: Any) -> Array:
    """Return the sums of squares of what differs and of what is expected, where that is finite."""
    finite = np.isfinite(expected)
    signal = expected[finite].astype(np.float64)
    noise = np.asarray(found)[finite].astype(np.float64) - signal
    return np.array([np.nan_to_num(noise**2, nan=np.inf, posinf=np.inf).sum(), (signal**2).sum()])


def _ratio(noise: float, signal: float) -> float:
    if not noise:
        return 0.0
    return noise / signal if signal else math.inf


def _excess(difference: Difference) -> float:
    """Return a difference in units of what is allowed."""
    if difference.passed and math.isinf(difference.relative):
        return 1.0
    if not difference.relative or difference.allowed:
        return difference.relative / (difference.allowed or 1.0)
    return math.inf


def repeats(first: Any, again: Any, name: str) -> bool:
    """Say whether two runs gave output *name* the same bits."""
    try:
        return _error(first, again, name).identical
    except BrokenModel:
        return False


def _is_free(spec: InputSpec) -> bool:
    return spec.shape is None or not all(isinstance(dim, int) for dim in spec.shape)


def _nudged(value: Any) -> Any:
    """Move floats to a neighbour, up and down in turn; other values stay as they are."""
    if isinstance(value, list):
        nudged = [_nudged(item) for item in value]
        return nudged if any(a is not b for a, b in zip(nudged, value, strict=True)) else value
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    ends = np.where(np.arange(value.size) % 2, np.inf, -np.inf).astype(value.dtype)
    return np.nextafter(value, ends.reshape(value.shape))


def _sizes(feed: Feed) -> tuple[Any, ...]:
    return tuple(
        value[0].shape if isinstance(value, list) and value else np.shape(value)
        for value in feed.values()
    )


def rounding(model: Model, own: float = 0.0) -> float:
    """Return the relative error up to which two results of *model* differ by rounding only.

    *own* is what onnxruntime's own optimizations change.
    """
    least = _HALF_ROUNDING if _computes_in_halves(model) else _ROUNDING
    return max(least, _MARGIN * own)


def _computes_in_halves(model: Model) -> bool:
    """Say whether any tensor of *model* has 16-bit floats."""
    for graph in model.graphs():
        if any(_is_half(tensor) for tensor in (*graph.inputs, *graph.outputs)):
            return True
    return any(
        any(_is_half(tensor) for tensor in (*node.inputs, *node.outputs))
        or (node.op == "Cast" and node.attr("to") in _HALVES)
        for node in model.nodes()
    )


def _is_half(tensor: Tensor) -> bool:
    if isinstance(tensor, Constant):
        return tensor.elem_type in _HALVES
    return tensor.dtype is not None and elem_type(tensor.dtype) in _HALVES


# What integers mean -------------------------------------------------------------------------------

_SMALL = (1, 5)
_LENGTH = (1, 3)
_PASSING: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Cast", "CastLike", "Reshape", "Unsqueeze", "Squeeze", "Identity"), (0,)),
    **dict.fromkeys(("Flatten", "Transpose", "Slice", "Expand", "Clip", "Tile", "Split"), (0,)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "Pad", "Compress"), (0,)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReverseSequence"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    **dict.fromkeys(("Concat", "Max", "Min"), None),
    "Where": (1, 2),
}
"""Operators that hand values of some inputs (None: all) on as they are."""
_SIZED: dict[tuple[str, int], tuple[int, int]] = {
    **dict.fromkeys((("Reshape", 1), ("Expand", 1), ("ConstantOfShape", 0), ("Tile", 1)), _SMALL),
    **dict.fromkeys((("Slice", 1), ("Slice", 2), ("Slice", 4), ("TopK", 1)), _SMALL),
    **dict.fromkeys((("Range", 1), ("Range", 2), ("Loop", 0), ("OneHot", 1)), _SMALL),
    **dict.fromkeys((("Resize", 3), ("Split", 1), ("CenterCropPad", 1), ("MaxUnpool", 2)), _SMALL),
    **dict.fromkeys((("Col2Im", 1), ("Col2Im", 2), ("Resize", 2), ("Upsample", 1)), _LENGTH),
    **dict.fromkeys((("ReverseSequence", 1), ("LSTM", 4), ("GRU", 4), ("RNN", 4)), _LENGTH),
    **{
        (f"com.microsoft::{search}", slot): values
        for search in ("BeamSearch", "GreedySearch", "Sampling")
        for slot, values in enumerate((_SMALL, (48, 64), _LENGTH))
    },
    ("com.microsoft::BeamSearch", 3): (2, 5),
    ("com.microsoft::BeamSearch", 4): (1, 2),
}
"""Operator inputs that are sizes or counts, and values that suit most of them."""


def _dim(tensor: Tensor, axis: int) -> int | None:
    shape = tensor.shape
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) else None


def _along_axis(data: int, axis: str = "axis", default: int = 0) -> Callable[[Node], int | None]:
    return lambda node: _dim(node.inputs[data], int(node.attr(axis, default)))


def _by_rows(data: int) -> Callable[[Node], int | None]:
    return lambda node: _dim(node.inputs[data], 0)


def _by_tuple(node: Node) -> int | None:
    """Return the smallest dimension that the tuples of GatherND and ScatterND index."""
    data, first = node.inputs[0], int(node.attr("batch_dims", 0))
    width = _dim(node.inputs[1], -1) or len(data.shape or ())
    dims = [_dim(data, axis) for axis in range(first, first + width)]
    return min((dim for dim in dims if dim is not None), default=None)


def _by_depth(node: Node) -> int | None:
    depth = node.constant(1)
    return None if depth is None else int(depth.reshape(-1)[0])


_INDEXING: dict[tuple[str, int], Callable[[Node], int | None]] = {
    ("Gather", 1): _along_axis(0),
    ("GatherElements", 1): _along_axis(0),
    ("ScatterElements", 1): _along_axis(0),
    ("Scatter", 1): _along_axis(0),
    ("GatherND", 1): _by_tuple,
    ("ScatterND", 1): _by_tuple,
    ("OneHot", 0): _by_depth,
    ("ai.onnx.ml::ArrayFeatureExtractor", 1): lambda node: _dim(node.inputs[0], -1),
    ("com.microsoft::EmbedLayerNormalization", 0): _by_rows(2),
    ("com.microsoft::EmbedLayerNormalization", 1): _by_rows(4),
    ("com.microsoft::GatherBlockQuantized", 1): _along_axis(0, "gather_axis"),
}
"""Operator inputs that index something, and the size of what they index."""


def index_bounds(model: Model) -> dict[str, tuple[int, int]]:
    """Return the range, from its first value to one past its last, that some inputs must keep to.

    These are inputs that index a table of known size, or say how large something is.
    """
    bounds: dict[str, tuple[int, int]] = {}
    for tensor in model.graph.inputs:
        ranges = list(_uses(tensor, model))
        if ranges:
            low = max(first for first, _ in ranges)
            bounds[tensor.name] = low, max(low + 1, min(last for _, last in ranges))
    return bounds


def _uses(start: Variable, model: Model) -> Iterator[tuple[int, int]]:
    """Yield a range for every use of the values of *start* that wants one."""
    functions = {(body.proto.domain, body.proto.name): body for body in model.functions}
    queue: list[tuple[Tensor, int]] = [(start, 0)]
    seen: set[Tensor] = {start}
    for tensor, shift in queue:
        for node in dict.fromkeys(tensor.outputs):
            body = functions.get((node.domain or "", node.op)) if node.calls_function else None
            for slot in (i for i, item in enumerate(node.inputs) if item is tensor):
                reached: Sequence[Tensor] = ()
                if body is not None:
                    reached = body.inputs[slot : slot + 1]
                else:
                    yield from _range(node, slot, shift)
                    reached = node.outputs if _passes(node, slot) else ()
                moved = shift + _offset(node, tensor)
                queue += [(item, moved) for item in reached if item not in seen]
                seen.update(reached)


def _range(node: Node, slot: int, shift: int) -> Iterator[tuple[int, int]]:
    """Yield the range of values that *node* wants at *slot*, before *shift* is added to them."""
    key = node.operator, slot
    size = _INDEXING[key](node) if key in _INDEXING else None
    if size is not None:
        yield max(0, -shift), size - shift
    if key in _SIZED:
        yield _SIZED[key]


def _passes(node: Node, slot: int) -> bool:
    if node.operator in ("Add", "Sub"):
        return slot == 0 or node.operator == "Add"
    slots = _PASSING.get(node.operator, ())
    return slots is None or slot in slots


def _offset(node: Node, tensor: Tensor) -> int:
    """Return the most that an addition of constants adds to *tensor*."""
    if node.operator not in ("Add", "Sub"):
        return 0
    others = [item for item in node.inputs if item is not tensor]
    value = others[0].values if others and isinstance(others[0], Constant) else None
    if value is None or not value.size or value.dtype.kind not in "iu":
        return 0
    return int(value.max()) if node.operator == "Add" else -int(value.min())


def bounded(specs: Sequence[InputSpec], model: Model) -> list[InputSpec]:
    """Return *specs* with the ranges of integers that *model* indexes with."""
    bounds = index_bounds(model)
    free = (None, None)
    return [
        replace(spec, low=bounds.get(spec.name, free)[0], high=bounds.get(spec.name, free)[1])
        for spec in specs
    ]
