"""Sessions: the only importer of onnxruntime, once a model is to be loaded.

Everything that onnxruntime may raise leaves this module as `CannotRun` with a one-line reason.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from onnxslim.data import Feed
from onnxslim.errors import CannotRun, ModelError
from onnxslim.ir import STANDARD_DOMAINS, Array, Constant, Model, Node, Tensor, elem_type, weights
from onnxslim.ir.serde import Exporter

if TYPE_CHECKING:
    import onnxruntime as ort

Source = bytes | Path
"""A serialised model, or the path of its file (needed beyond 2 GiB)."""

_T = TypeVar("_T")
_IN_MEMORY = 1 << 26
"""Models of fewer bytes are handed to onnxruntime as bytes, larger ones as files."""
_LARGE = 1 << 28
"""From this many bytes on, sessions save memory rather than time."""

_LEAST_RUNS = 11
"""So many pairs of runs are timed at least."""

# Values that NumPy has no types for: their bytes are copied in and out.
_NARROW = ("BFLOAT16", "FLOAT8", "FLOAT6", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2")
_NOT_NATIVE = {
    f"tensor({name.lower()})": number
    for name, number in TensorProto.DataType.items()
    if name.startswith(_NARROW)
}


@contextmanager
def lent(model: Model) -> Iterator[Source]:
    """Lend the model to onnxruntime: as bytes, or as a temporary file where it is large."""
    content = model.small_bytes(_IN_MEMORY)
    if content is not None:
        yield content
        return
    with tempfile.TemporaryDirectory(prefix="onnxslim-", dir=_same_disk(model)) as folder:
        path = model.lend(Path(folder))
        model.store.forget_pages()
        yield path


def _same_disk(model: Model) -> Path | None:
    """Choose where temporary files can link to the model's weights; None is the usual place."""
    usual = Path(tempfile.gettempdir())
    for path, _ in model.store.files:
        if path.stat().st_dev != usual.stat().st_dev and os.access(path.parent, os.W_OK):
            return path.parent
    return None


class Session:
    """A model loaded by onnxruntime on the CPU; dropping it frees its memory."""

    def __init__(
        self, source: Source, optimize: bool, threads: int = 1, profile: bool = False
    ) -> None:
        """Load *source*, with all of onnxruntime's optimizations or none. Raises CannotRun.

        With *profile*, `kernels` tells what a first run computed.
        """
        import onnxruntime as ort

        self._source = source
        options = _options(optimize, threads, _is_large(source))
        if profile:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxslim-")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        model = source if isinstance(source, bytes) else str(source)
        providers = ["CPUExecutionProvider"]
        self._session = self._attempt(
            lambda: ort.InferenceSession(model, options, providers=providers)
        )
        self._types = {item.name: item.type for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]  # some come twice
        self.output_types = {item.name: item.type for item in self._session.get_outputs()}
        """Types by name, as ONNX's operator schemas write them."""
        kinds = (*self._types.values(), *self.output_types.values())
        self._native = _NOT_NATIVE.keys().isdisjoint(kinds)

    def run(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs by name: arrays, lists and dicts, None for an empty optional.

        Types that NumPy lacks are ml_dtypes. Raises CannotRun.
        """
        import onnxruntime as ort

        quiet = ort.RunOptions()
        quiet.log_severity_level = 4
        if self._native:
            values = self._attempt(lambda: self._session.run(None, dict(feed), quiet))
        else:
            values = self._attempt(lambda: self._run_values(feed, quiet))
        return dict(zip(self._outputs, values, strict=True))

    def kernels(self) -> Counter[str]:
        """Count the operators that onnxruntime computed, by name; once, and only with *profile*."""
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        computed = {
            event["name"]: event["args"]["op_name"]
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        }
        return Counter(computed.values())

    def _run_values(self, feed: Mapping[str, Any], quiet: ort.RunOptions) -> list[Array]:
        inputs = {name: _to_ort(value, self._types[name]) for name, value in feed.items()}
        return [_from_ort(v) for v in self._session.run_with_ort_values(None, inputs, quiet)]

    def _attempt(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except Exception as error:  # onnxruntime's errors have no common base
            reason = _reason(error, self._source)
        raise CannotRun(reason)  # out here, where no context holds what onnxruntime had loaded


def _options(optimize: bool, threads: int, save_memory: bool) -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if save_memory:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    return options


def latency_ratio(
    candidate: Source, baseline: Source, feeds: Sequence[Feed], seconds: float = 2.0
) -> float:
    """Return the time of a run of *candidate* as a multiple of that of *baseline*.

    Both run with all of onnxruntime's optimizations on one thread, in turn, for about so many
    *seconds* in all; it is the median of the ratios of neighbouring runs. Raises CannotRun.
    """
    sessions = [Session(source, optimize=True) for source in (candidate, baseline)]
    for session in sessions:
        session.run(feeds[0])
    ratios, end = list[float](), time.monotonic() + seconds
    for turn in itertools.count():
        feed = feeds[turn // 2 % len(feeds)]
        pair = [0.0, 0.0]
        for index in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            sessions[index].run(feed)
            pair[index] = time.perf_counter() - start
        ratios.append(pair[0] / pair[1])
        if time.monotonic() > end and len(ratios) >= _LEAST_RUNS:
            return float(np.median(ratios))
    raise AssertionError("unreachable")


def _is_large(source: Source) -> bool:
    """Say whether a model has many bytes, external data included; False if it cannot be read."""
    if isinstance(source, bytes):
        return len(source) >= _LARGE
    try:
        size, store = source.stat().st_size, weights.Store()
        if size < _LARGE:
            weights.read(source, store)
        return size + sum(store.external.values()) >= _LARGE
    except (ModelError, OSError):
        return False


def _to_ort(value: Any, declared: str) -> ort.OrtValue:
    import onnxruntime as ort

    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} beside a type that NumPy lacks")
    if declared not in _NOT_NATIVE:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    raw = numpy_helper.from_array(value).raw_data
    made = ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), _NOT_NATIVE[declared])
    if raw:
        ctypes.memmove(made.data_ptr(), raw, len(raw))
    return made


def _from_ort(value: ort.OrtValue) -> Array:
    if value.data_type() not in _NOT_NATIVE:
        return np.asarray(value.numpy())
    shape, elem = value.shape(), value.element_type()
    size = -(-math.prod(shape) * weights.bits(elem) // 8)
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    return numpy_helper.to_array(TensorProto(dims=shape, data_type=elem, raw_data=raw))


_SIGNATURE = r"(?:[^()]*\([^()]*\)(?:::<lambda\([^()]*\)>)?|\S+)(?: const)?(?: \[with [^\]]*\])? "
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"Load model from .*? failed:",
    r"Exception during \w+: ",
    r"(?<=: )[\w.]+\.(?:cc|h):\d+ \w+ ",
    rf"\S*onnxruntime[/\\]\S+:\d+ (?:.* was false\. (?=.)|{_SIGNATURE})",
)


def _reason(error: Exception, source: Source) -> str:
    """Shorten a message to one line without paths and onnxruntime's own source code."""
    text = " ".join(str(error).split())
    if isinstance(source, Path):
        for path in (source, source.resolve()):
            text = text.replace(str(path), path.name).replace(f"{path.parent}/", "")
    for pattern in _NOISE:
        text = re.sub(pattern, "", text)
    text = re.sub(r"Non-zero status code returned while running (\S+) node. ", r"\1: ", text)
    text = re.sub(r"Name:'(.*?)' Status Message: ", lambda m: m[1] and f"node {m[1]!r}: ", text)
    text = text or type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"


_KNOWN = 8
"""An IR version and an opset that every onnxruntime loads."""


@functools.cache
def limits() -> tuple[int, int]:
    """Return the newest IR version and the newest opset that onnxruntime loads."""
    newest_format = _newest(lambda version: _loads(version, _KNOWN))
    return newest_format, _newest(lambda opset: _loads(_KNOWN, opset))


def loadable_ir(version: int) -> int:
    """Return *version*, or the newest IR version that onnxruntime loads where that is less."""
    return version if version <= _KNOWN or _loads(version, _KNOWN) else limits()[0]


def loadable_opset(version: int) -> int:
    """Return *version*, or the newest opset that onnxruntime loads where that is less."""
    return version if version <= _KNOWN or _loads(_KNOWN, version) else limits()[1]


def _newest(loads: Callable[[int], bool], known: int = _KNOWN, bound: int = 64) -> int:
    """Return the last version that *loads*, between one that does and one that does not."""
    while bound - known > 1:
        middle = (known + bound) // 2
        known, bound = (middle, bound) if loads(middle) else (known, middle)
    return known


@functools.cache
def _loads(ir_version: int, opset: int) -> bool:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "probe", [info("x", TensorProto.FLOAT, [1])], [info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = ModelProto(ir_version=ir_version, graph=graph)
    model.opset_import.add(version=opset)
    try:
        Session(model.SerializeToString(), optimize=False)
    except CannotRun:
        return False
    return True


def output_types(node: Node, given: Sequence[TypeProto | None]) -> list[str]:
    """Return the types that onnxruntime finds for the outputs of *node*; empty if it does not.

    *given* are those of its inputs. Nodes with subgraphs are beyond it.
    """
    known = all(kind is not None for t, kind in zip(node.inputs, given, strict=True) if t.name)
    if not known or node.graph is None or node.subgraphs():
        return []
    model = ModelProto(ir_version=8, graph=GraphProto(name="node"))
    for domain, version in node.graph.opsets.items():
        model.opset_import.add(domain=domain, version=version)
    proto = model.graph.node.add()
    Exporter(model, node.store).node(node, proto, node.graph)
    for field in ("name", "input", "output"):
        proto.ClearField(field)
    for slot, kind in enumerate(given):
        proto.input.append("" if kind is None else f"i{slot}")
        if kind is not None:
            model.graph.input.append(ValueInfoProto(name=f"i{slot}", type=kind))
    for slot, tensor in enumerate(node.outputs):
        proto.output.append(f"o{slot}" if tensor.name else "")
        if tensor.name:
            model.graph.output.append(ValueInfoProto(name=f"o{slot}"))
    weights.filled(model, node.store)
    found = _loaded_types(model.SerializeToString(deterministic=True))
    return [found.get(name, "") for name in proto.output] if found else []


@functools.lru_cache(maxsize=1024)
def _loaded_types(content: bytes) -> dict[str, str]:
    try:
        return Session(content, optimize=False).output_types
    except CannotRun:
        return {}


# Constant nodes -----------------------------------------------------------------------------------

_BATCH = 500
"""Onnxruntime loads models in more than linear time."""
_EMBED = 1 << 16
"""Constants of fewer bytes are put into the model, larger ones are fed to it."""

Opsets = tuple[tuple[str, int], ...]


def evaluate(model: Model, nodes: Sequence[Node], wanted: Sequence[Tensor]) -> dict[Tensor, Array]:
    """Return the values of *wanted*, computed by running *nodes* without optimizations.

    *nodes* are in topological order and read constants and each other. Arrays are read-only.
    Missing is what cannot be computed: nodes that onnxruntime refuses and those that depend on
    them, nodes with subgraphs, calls of local functions, and values that are no tensors.
    """
    return _Evaluation(model, nodes, wanted).run()


class _Evaluation:
    """One call of `evaluate`."""

    def __init__(self, model: Model, nodes: Sequence[Node], wanted: Sequence[Tensor]) -> None:
        self.model, self.nodes, self.wanted = model, nodes, set(wanted)
        self.ir_version = loadable_ir(max(model.ir_version, _KNOWN))
        self.exporter = Exporter(ModelProto(ir_version=self.ir_version), model.store)
        self.waiting = set(nodes)
        self.values: dict[Tensor, Any] = {}

    def run(self) -> dict[Tensor, Array]:
        for opsets, group in itertools.groupby(self.nodes, self._opsets):
            while opsets is not None and (batch := list(itertools.islice(group, _BATCH))):
                self._batch(batch, opsets)
        return {
            tensor: value
            for tensor, value in self.values.items()
            if tensor in self.wanted and isinstance(value, np.ndarray)
        }

    def _opsets(self, node: Node) -> Opsets | None:
        """Return the opsets to run *node* under; None where it cannot be run."""
        if node.calls_function or node.subgraphs():
            return None
        graph = node.graph or self.model.graph
        opsets = {d: v for d, v in graph.opsets.items() if d not in STANDARD_DOMAINS}
        version, newest = graph.version, loadable_opset(graph.version)
        standard = (node.domain or "") in STANDARD_DOMAINS
        if version > newest and standard and _since(node.op, version) != _since(node.op, newest):
            return None
        opsets[""] = newest
        return tuple(sorted(opsets.items()))

    def _batch(self, nodes: Sequence[Node], opsets: Opsets) -> None:
        """Run *nodes*; where they fail, halve them until the culprit is alone."""
        ready = self._ready(nodes)
        self.waiting.difference_update(nodes)
        try:
            if ready:
                self.values.update(_Batch(self, ready, opsets).run())
        except CannotRun:
            if len(ready) > 1:
                middle = len(ready) // 2
                self.waiting.update(ready[middle:])
                self._batch(ready[:middle], opsets)
                self._batch(ready[middle:], opsets)

    def _ready(self, nodes: Sequence[Node]) -> list[Node]:
        """Return those of *nodes* whose inputs are known or computed by one of them."""
        ready, computed = list[Node](), set[Tensor]()
        for node in nodes:
            if all(
                not t.name or isinstance(t, Constant) or t in computed or t in self.values
                for t in node.inputs
            ):
                ready.append(node)
                computed.update(node.outputs)
        return ready


class _Batch:
    """A model made of a few constant nodes."""

    def __init__(self, around: _Evaluation, nodes: Sequence[Node], opsets: Opsets) -> None:
        self.around, self.proto = around, ModelProto(ir_version=around.ir_version)
        for domain, version in opsets:
            self.proto.opset_import.add(domain=domain, version=version)
        self.graph: GraphProto = self.proto.graph
        self.graph.name = "constants"
        self.names: dict[Tensor, str] = {}
        self.feed: Feed = {}
        self.results: dict[str, Tensor] = {}
        for node in nodes:
            self._node(node)

    def run(self) -> Iterator[tuple[Tensor, Any]]:
        """Return the values of the tensors that somebody needs."""
        if not self.results:
            return iter(())
        weights.filled(self.proto, self.around.model.store)
        self.graph.output.extend(ValueInfoProto(name=name) for name in self.results)
        session = Session(self.proto.SerializeToString(), optimize=False)
        found = session.run(self.feed)
        return ((tensor, _frozen(found[name])) for name, tensor in self.results.items())

    def _node(self, node: Node) -> None:
        proto = self.graph.node.add()
        self.around.exporter.node(node, proto, node.graph or self.around.model.graph)
        for field in ("name", "doc_string", "input", "output", "metadata_props"):
            proto.ClearField(field)
        proto.input.extend(self._input(tensor) for tensor in node.inputs)
        for tensor in node.outputs:
            if not tensor.name:
                proto.output.append("")
                continue
            name = self.names[tensor] = f"v{len(self.names)}"
            proto.output.append(name)
            if tensor in self.around.wanted or not self.around.waiting.isdisjoint(tensor.outputs):
                self.results[name] = tensor

    def _input(self, tensor: Tensor) -> str:
        if not tensor.name:
            return ""
        if tensor not in self.names:
            name = self.names[tensor] = f"c{len(self.names)}"
            self._known(tensor, name)
        return self.names[tensor]

    def _known(self, tensor: Tensor, name: str) -> None:
        """Embed or feed a value that is known."""
        if isinstance(tensor, Constant):
            if tensor.nbytes < _EMBED:
                self.graph.initializer.append(self.around.exporter.tensor(tensor, name))
                return
            value: Any = tensor.values
        else:
            value = self.around.values[tensor]
            if isinstance(value, np.ndarray) and value.nbytes < _EMBED:
                self.graph.initializer.append(numpy_helper.from_array(value, name))
                return
        self.feed[name] = value
        self.graph.input.append(_declaration(name, value))


def _declaration(name: str, value: Any) -> ValueInfoProto:
    if isinstance(value, np.ndarray):
        return helper.make_tensor_value_info(name, elem_type(value.dtype), value.shape)
    if not isinstance(value, list) or not value or not isinstance(value[0], np.ndarray):
        raise CannotRun("a value is neither a tensor nor a sequence of tensors")
    return helper.make_tensor_sequence_value_info(name, elem_type(value[0].dtype), None)


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return value


def _since(op: str, version: int) -> int:
    try:
        return int(onnx.defs.get_schema(op, version, "").since_version)
    except onnx.defs.SchemaError:
        return 0
