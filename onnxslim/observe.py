"""What flows through a model: one streaming sweep over calibration data.

`observe` collects ranges, moments and histograms of tensors; `second_moments` the Gram matrices of
what layers multiply by their weights, for a convolution of the patches that its kernel sees, and
`samples` some of those. All run the model without onnxruntime's optimizations and keep of a sample
little but sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx

from onnxslim.data import Calibration, Feed, input_specs
from onnxslim.errors import CannotRun, InputError, PassError
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.runtime import Session, Source, lent

BINS = 2048
ROWS = 4096
"""Patches and rows of one sample that go into a Gram matrix; of more, as many at even distances."""
_BLOCK = 512
"""Rows that are multiplied at once: a product of few rows takes as long as one of many."""
_CHUNK = 1 << 15
"""Values that a processor's cache holds with what is computed of them."""


class Progress(Protocol):
    """Is told how far a sweep is."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """*what* has done *done* of *total* samples; 0 where nobody knows how many there are."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass
class Histogram:
    """Counts in `BINS` bins of equal width over [-limit, limit]; the range doubles as needed."""

    limit: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def edges(self) -> Array:
        """The bounds of the bins, one more than there are bins."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    def add(self, values: Array) -> None:
        """Count *values*, all finite."""
        largest = float(np.abs(values).max(initial=0.0))
        if self.limit == 0.0:
            self.limit = 2.0 ** math.ceil(math.log2(largest)) if largest else 0.0
        while largest > self.limit > 0.0:
            inner = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(inner, BINS // 4)
            self.limit *= 2
        if self.limit == 0.0:
            self.counts[BINS // 2] += values.size
            return
        for start in range(0, values.size, _CHUNK):
            self.counts += self._counted(values[start : start + _CHUNK])

    def _counted(self, values: Array) -> Array:
        """Count as np.histogram does, and faster: dividing by a power of two is exact."""
        bins = np.floor(values / self.limit * (BINS // 2)).astype(np.int32)
        bins += BINS // 2
        return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


@dataclass
class Observation:
    """What was seen of one tensor, by channel where an axis was asked for."""

    axis: int | None = None
    minimum: Array = field(default_factory=lambda: np.full((), np.inf))
    maximum: Array = field(default_factory=lambda: np.full((), -np.inf))
    count: int = 0
    """Elements seen, of each channel."""
    total: Array = field(default_factory=lambda: np.zeros(()))
    squares: Array = field(default_factory=lambda: np.zeros(()))
    histogram: Histogram | None = None

    @property
    def mean(self) -> Array:
        """Mean values."""
        return np.asarray(self.total / max(1, self.count))

    @property
    def variance(self) -> Array:
        """Population variances."""
        return np.asarray(np.maximum(self.squares / max(1, self.count) - self.mean**2, 0.0))

    def add(self, values: Array) -> None:
        """Take in the values of one sample."""
        values = np.asarray(values, np.float64)
        if not values.size:
            return
        axes = None
        if self.axis is not None:
            axes = tuple(a for a in range(values.ndim) if a != self.axis % values.ndim)
        self.minimum = np.minimum(self.minimum, values.min(axes))
        self.maximum = np.maximum(self.maximum, values.max(axes))
        self.total = self.total + values.sum(axes)
        self.squares = self.squares + (values**2).sum(axes)
        self.count += values.size // max(1, self.minimum.size)
        if self.histogram is not None:
            self.histogram.add(values.reshape(-1))


def observe(
    model: Model,
    data: Calibration,
    tensors: Mapping[str, int | None],
    histograms: bool = False,
    progress: Progress = silent,
) -> dict[str, Observation]:
    """Observe *tensors* of the main graph, each by the channels of an axis or as a whole (None).

    Raises PassError where the model makes values that are not finite, InputError for tensors that
    the model does not compute, DataError for data that do not fit, CannotRun where onnxruntime
    cannot run it.
    """
    found = {
        name: Observation(axis, histogram=Histogram() if histograms else None)
        for name, axis in tensors.items()
    }
    for number, values in enumerate(runs(model, data, list(found), progress)):
        for name, observation in found.items():
            array = np.asarray(values[name], np.float64)
            if not np.isfinite(array).all():
                raise PassError(f"sample {number} makes {name!r} infinite or NaN")
            observation.add(array)
    return found


def second_moments(
    model: Model,
    data: Calibration,
    nodes: Sequence[Node],
    progress: Progress = silent,
    rows: int = ROWS,
) -> dict[Node, Array]:
    """Return the mean of x xᵀ, (groups, K, K) in float64, of what each layer multiplies.

    The layers are Conv, Gemm and MatMul of *model*'s main graph with constant weights; K is the
    number of weights of one output: inputs of a group times the size of the kernel. Of a sample,
    about *rows* x are taken. Source: Frantar et al. 2023, GPTQ, for what they are used for.
    """
    inputs = {node: node.inputs[_data_slot(node)].name for node in nodes}
    grams = {node: _Gram() for node in nodes}
    for values in runs(model, data, list(dict.fromkeys(inputs.values())), progress):
        for node, name in inputs.items():
            grams[node].add(layer_rows(node, np.asarray(values[name], np.float64), rows))
    return {node: gram.mean() for node, gram in grams.items()}


class _Gram:
    """The sum of x xᵀ over rows x, which are collected until there are enough to multiply."""

    def __init__(self) -> None:
        self.count, self._waiting, self._rows = 0, list[Array](), 0
        self._total: Array | float = 0.0

    def add(self, rows: Array) -> None:
        """Take in *rows*, (groups, count, K)."""
        self._waiting.append(rows)
        self._rows += rows.shape[1]
        if self._rows >= min(_BLOCK, rows.shape[2]):
            self._multiply()

    def mean(self) -> Array:
        """Return the mean, (groups, K, K)."""
        self._multiply()
        return np.asarray(self._total / max(1, self.count))

    def _multiply(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting, axis=1)
            self._total = self._total + rows.transpose(0, 2, 1) @ rows
            self.count += self._rows
            self._waiting, self._rows = [], 0


def samples(
    model: Model,
    data: Calibration,
    nodes: Sequence[Node],
    rows: int = 256,
    progress: Progress = silent,
) -> dict[Node, Array]:
    """Return some of what each layer multiplies, (groups, at most *rows*, K), as `layer_rows`.

    The layers are those of `second_moments`; rows are taken at even distances from every sample.
    """
    inputs = {node: node.inputs[_data_slot(node)].name for node in nodes}
    kept: dict[Node, list[Array]] = {node: [] for node in nodes}
    each = max(1, math.ceil(rows / (_count(data) or rows)))
    for values in runs(model, data, list(dict.fromkeys(inputs.values())), progress):
        for node, name in inputs.items():
            if len(kept[node]) * each < rows:
                found = layer_rows(node, np.asarray(values[name], np.float32))
                start = len(kept[node]) * 7 % max(1, found.shape[1] // each)
                step = max(1, found.shape[1] // each)
                kept[node].append(found[:, start::step][:, :each].copy())
    return {node: np.concatenate(parts, axis=1)[:, :rows] for node, parts in kept.items()}


def outputs(model: Model, data: Calibration, limit: int) -> list[Mapping[str, Array]]:
    """Return what the model puts out for the first *limit* samples, floats only."""
    names = [tensor.name for tensor in model.graph.outputs]
    found = itertools.islice(runs(model, data, names, silent), limit)
    return [{k: v for k, v in made.items() if _is_floats(v)} for made in found]


def _is_floats(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _data_slot(node: Node) -> int:
    return 1 if isinstance(node.inputs[0], Constant) else 0


def layer_rows(
    node: Node, values: Array, limit: int | None = None, kernel: Sequence[int] | None = None
) -> Array:
    """Return what the outputs of a layer are sums over: (groups, rows, K).

    Of more than *limit* rows, as many at even distances are returned. Of a convolution whose
    weights are computed, *kernel* says the size.
    """
    if node.operator == "Conv":
        return _patches(node, values, limit, kernel or node.inputs[1].shape[2:])
    slot = _data_slot(node)
    if node.operator == "Gemm":
        turned = bool(node.attr("transB" if slot else "transA", 0)) != bool(slot)
    else:
        turned = bool(slot) and values.ndim > 1
    rows = np.moveaxis(values, -2, -1) if turned else values
    rows = rows.reshape(1, -1, rows.shape[-1])
    return rows[:, :: _step(rows.shape[1], limit)]


def output_rows(node: Node, values: Array, limit: int | None = None) -> Array:
    """Return the outputs of a layer that belong to `layer_rows`: (rows, M)."""
    last = np.moveaxis(values, 1, -1) if node.operator == "Conv" else values
    rows = last.reshape(-1, last.shape[-1])
    return rows[:: _step(len(rows), limit)]


def _step(count: int, limit: int | None) -> int:
    return 1 if limit is None else max(1, math.ceil(count / limit))


def _patches(node: Node, values: Array, limit: int | None, kernel: Sequence[int]) -> Array:
    """Unfold an image into the patches that the kernel sees, (groups, patches, K)."""
    spatial = values.ndim - 2
    strides = node.attr("strides", [1] * spatial)
    dilations = node.attr("dilations", [1] * spatial)
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = _pads(node, values.shape[2:], extents, strides)
    padded = np.pad(values, [(0, 0), (0, 0), *pads])
    axes = tuple(range(2, values.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, extents, axes)
    steps = (1, 1, *strides, *dilations)
    windows = windows[tuple(slice(None, None, step) for step in steps)]
    groups = int(node.attr("group", 1))
    batch, channels = values.shape[:2]
    places = windows.shape[2 : 2 + spatial]
    grouped = windows.reshape(batch, groups, channels // groups, *places, *kernel)
    order = (1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    patches = grouped.transpose(order)
    count = batch * math.prod(places)
    numbers = np.arange(0, count, _step(count, limit))
    index: Any = (slice(None), *np.unravel_index(numbers, (batch, *places)))
    return np.asarray(patches[index]).reshape(groups, len(numbers), -1)


def _pads(
    node: Node, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return what is added before and after every spatial axis."""
    automatic, count = node.attr("auto_pad", "NOTSET"), len(sizes)
    if automatic in ("NOTSET", "VALID"):
        pads = node.attr("pads", [0] * 2 * count) if automatic == "NOTSET" else [0] * 2 * count
        return [(pads[i], pads[i + count]) for i in range(count)]
    made = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        whole = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
        less, more = whole // 2, whole - whole // 2
        made.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return made


# Running ------------------------------------------------------------------------------------------


def runs(
    model: Model, data: Calibration, names: Sequence[str], progress: Progress
) -> Iterator[Mapping[str, Array]]:
    """Yield the values of tensors *names* of the main graph for every sample.

    Nothing is computed that these do not need. Raises as `observe` does.
    """
    skeleton = model.skeleton()
    feeds = data.fitted(input_specs(skeleton))
    given = {tensor.name for tensor in model.graph.inputs}
    inner = [name for name in names if name not in given]
    if not inner:
        yield from (_of(feed, names) for feed in feeds)
        return
    _show(skeleton, inner)
    with lent(Model(skeleton, model.store)) as source:
        runner = _Runner(source)
        for number, feed in enumerate(feeds):
            progress("observing", number, _count(data))
            yield {**_of(feed, names), **_of(runner.run(feed), inner)}


class _Runner:
    """Runs a model, with onnxruntime's optimizations as long as these do not fail.

    They compute once what is constant, which may be all weights of a layer.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._optimize = source, True
        self._session: Session | None = None

    def run(self, feed: Feed) -> dict[str, Any]:
        try:
            self._session = self._session or Session(self._source, self._optimize)
            return self._session.run(feed)
        except CannotRun:
            if not self._optimize:
                raise
        self._session, self._optimize = None, False
        return self.run(feed)


def _of(values: Mapping[str, Array], names: Iterable[str]) -> Feed:
    return {name: values[name] for name in names if name in values}


def _count(data: Calibration) -> int:
    return data.count or 0


def _show(skeleton: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make tensors the outputs, and leave out what these do not need."""
    made = {name for node in skeleton.graph.node for name in node.output}
    missing = [name for name in names if name not in made]
    if missing:
        raise InputError(f"the model computes no tensor called {missing[0]!r}")
    graph, needed = skeleton.graph, set(names)
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(_read(node))
            kept.append(node)
    nodes = kept[::-1]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, and those that its subgraphs do."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _read(inner)
