"""Say whether an optimized model still is the model it was. Reads requests as `optimize.py` does.

A request ``{"case": {"name", "model", ...}, "result": path}`` gets a verdict:

* ``invalid``    onnx's checker refuses it, though not the original
* ``interface``  valid, but inputs (without a default) or outputs have other names or types
* ``wrong``      does not load or run where the original does, or gives other outputs
* ``ok``
* ``unjudged``   valid; nothing at hand runs the original, or not to the expected outputs

A case with ``sets`` (folders of ``input_*.pb``, ``output_*.pb``) is judged by the outputs there: by
onnxruntime without its optimizations and with all of them, where so run the original gives them;
where neither does, by onnx's reference implementation, which says nothing about what it cannot run
(initializers of some subgraphs, for one). Other cases are judged by what the original
gives in onnxruntime without optimizations, for ``feeds`` (``.npz`` files) or else for made-up ones.

Outputs are the same when the largest difference is within 1e-4 of an output's scale, its largest
finite magnitude (1e-2 in half precision), or within four times the original's own distance from
the expected outputs. Integers, booleans, texts, shapes and types must be equal.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
from google.protobuf.message import Message
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.sidebyside.optimize import serve
from onnxslim import Calibration, Effect, Model
from onnxslim.errors import BrokenModel, CannotRun
from onnxslim.runtime import Session
from onnxslim.validate import Reference

Values = list[Any]
Run = Callable[[dict[str, Any]], Values]
STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"}
HALF, SINGLE = 1e-2, 1e-4
FAR = 1e-2
"""A runner this far from the expected outputs on the original is no judge."""


# What a model is ----------------------------------------------------------------------------------


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of subgraphs and local functions included."""
    bodies = [list(model.graph.node), *(list(function.node) for function in model.functions)]
    for body in bodies:
        for node in body:
            yield node
            for attribute in node.attribute:
                bodies += [list(graph.node) for graph in (attribute.g, *attribute.graphs)]


def describe(path: Path) -> dict[str, Any]:
    """Return the nodes of a model, its bytes on disk, and the operators beyond the standard.

    ``notes`` are the bytes of metadata and doc strings. ``refused`` says why it is no model, if
    onnx's checker and onnxruntime agree on that.
    """
    model = onnx.load(path, load_external_data=False)
    own = STANDARD | {function.domain for function in model.functions}
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in nodes(model) if n.domain not in own})
    used = {path, *(path.parent / name for name in _external(model))}
    counted = {"nodes": sum(1 for _ in nodes(model)), "foreign": foreign}
    counted["bytes"] = sum(file.stat().st_size for file in used)
    whole = model.ByteSize()
    _drop_notes(model)
    return counted | {"notes": whole - model.ByteSize(), "refused": _refused(path)}


def _drop_notes(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type:
            for item in [value] if isinstance(value, Message) else value:
                _drop_notes(item)


def _refused(path: Path) -> str:
    fault = _fault(path)
    if fault:
        with contextlib.suppress(CannotRun):
            Session(path, optimize=False)
            return ""
    return fault


def _external(model: onnx.ModelProto) -> set[str]:
    tensors = (t for t in model.graph.initializer if t.HasField("data_location"))
    return {entry.value for t in tensors for entry in t.external_data if entry.key == "location"}


def _fault(path: Path) -> str:
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # the checker's errors have no common base
        return _line(error)
    return ""


def _interface(model: onnx.ModelProto) -> list[tuple[str, str, int]]:
    defaults = {tensor.name for tensor in model.graph.initializer}
    defaults |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    given = [info for info in model.graph.input if info.name not in defaults]
    return [
        (info.name, info.type.WhichOneof("value") or "", info.type.tensor_type.elem_type)
        for info in (*given, *model.graph.output)
    ]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# Runners ------------------------------------------------------------------------------------------


def _onnxruntime(path: Path, optimize: bool) -> Run:
    session = Session(path, optimize)
    return lambda feed: list(session.run(feed).values())


def _reference(path: Path) -> Run:
    evaluator = ReferenceEvaluator(str(path))
    return lambda feed: list(evaluator.run(None, feed))


RUNNERS: dict[str, Callable[[Path], Run]] = {
    "onnxruntime": lambda path: _onnxruntime(path, optimize=False),
    "onnxruntime, optimized": lambda path: _onnxruntime(path, optimize=True),
    "onnx.reference": _reference,
}


def distance(expected: Any, found: Any) -> float:
    """Return the largest difference relative to the scale; infinite where it is no rounding."""
    if isinstance(expected, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(expected) != len(found):
            return math.inf
        return max(map(distance, expected, found), default=0.0)
    if not isinstance(expected, (np.ndarray, np.generic)):
        return 0.0 if expected == found else math.inf
    old, new = np.asarray(expected), np.asarray(found)
    if old.shape != new.shape or (old.dtype != new.dtype and old.dtype.kind not in "OUS"):
        return math.inf
    if old.dtype.kind in "OUSbiu":
        return 0.0 if np.array_equal(old, new) else math.inf
    return _rounding(old, new)


def _rounding(old: Any, new: Any) -> float:
    wide = np.complex128 if old.dtype.kind == "c" else np.float64
    old, new = old.astype(wide), new.astype(wide)
    differ = ~((old == new) | (np.isnan(old) & np.isnan(new)))
    if not differ.any():
        return 0.0
    if not (np.isfinite(old[differ]).all() and np.isfinite(new[differ]).all()):
        return math.inf
    scale = float(np.abs(old[np.isfinite(old)]).max(initial=0.0)) or 1.0
    return float(np.abs(old - new)[differ].max()) / scale


def _precision(values: Any) -> float:
    if isinstance(values, (list, tuple)):
        return max(map(_precision, values), default=SINGLE)
    narrow = isinstance(values, np.ndarray) and values.dtype.itemsize < 4
    return HALF if narrow else SINGLE


# Cases --------------------------------------------------------------------------------------------


class Given:
    """A case whose outputs are given."""

    def __init__(self, model: Path, sets: list[Path]) -> None:
        proto = onnx.load(model)
        self.sets = [_read(proto, folder) for folder in sets]
        floor = max((_precision(outputs) for _, outputs in self.sets), default=SINGLE)
        own = {name: self._distance(name, model)[0] for name in list(RUNNERS)[:2]}
        if min(own.values()) > FAR:
            own = {"onnx.reference": self._distance("onnx.reference", model)[0]}
        self.allowed = {
            name: max(floor, 4 * error) for name, error in own.items() if self.sets and error <= FAR
        }

    def judge(self, path: Path) -> tuple[str, str, float]:
        """Return verdict, reason, distance."""
        if not self.allowed:
            return "unjudged", "", 0.0
        worst = 0.0
        for name, allowed in self.allowed.items():
            error, reason = self._distance(name, path)
            if reason and name == "onnx.reference":
                return "unjudged", f"{name}: {reason}", 0.0
            if error > allowed:
                return "wrong", f"{name}: {reason or f'differs by {error:.1e}'}", error
            worst = max(worst, error)
        return "ok", "", worst

    def _distance(self, runner: str, path: Path) -> tuple[float, str]:
        try:
            run = RUNNERS[runner](path)
            errors = [
                distance(expected, run(dict(feed))[: len(expected)]) for feed, expected in self.sets
            ]
        except Exception as error:  # the reference implementation's have no common base
            return math.inf, _line(error)
        return max(errors, default=math.inf), ""


def _read(proto: onnx.ModelProto, folder: Path) -> tuple[dict[str, Any], Values]:
    defaults = {tensor.name for tensor in proto.graph.initializer}
    inputs = [info for info in proto.graph.input if info.name not in defaults]
    read = {}
    for stem, infos in (("input", inputs), ("output", list(proto.graph.output))):
        files = [folder / f"{stem}_{number}.pb" for number in range(len(infos))]
        pairs = zip(files, infos, strict=True)
        read[stem] = {info.name: _decoded(file, info) for file, info in pairs if file.exists()}
    return read["input"], list(read["output"].values())


def _decoded(file: Path, info: onnx.ValueInfoProto) -> Any:
    content, kind = file.read_bytes(), info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind == "optional_type":
        held = onnx.OptionalProto.FromString(content)
        filled = any(held.HasField(f"{kind}_value") for kind in ("tensor", "sequence", "optional"))
        return numpy_helper.to_optional(held) if filled else None
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


class Own:
    """A case whose outputs are those of the original in onnxruntime without optimizations."""

    def __init__(self, path: Path, feeds: list[Path]) -> None:
        arrays = [dict(np.load(feed)) for feed in feeds]
        data = Calibration.of(arrays) if arrays else None
        self.reference = Reference(path, Model.load(path), data, seed=1)

    def judge(self, path: Path) -> tuple[str, str, float]:
        """Return verdict, reason, distance."""
        if self.reference.reason is not None:
            return "unjudged", self.reference.reason, 0.0
        try:
            found = self.reference.compare(path, Effect.ROUNDING)
        except (BrokenModel, CannotRun) as error:
            return "wrong", str(error), math.inf
        if found.passed or found.relative <= max(SINGLE, found.allowed):
            return "ok", "", found.relative
        return "wrong", f"{found.output} differs by {found.relative:.1e}", found.relative


class Case:
    """An original, and what is known of it."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.path = Path(case["model"])
        self.valid = not _fault(self.path)
        self.interface = _interface(onnx.load(self.path, load_external_data=False))
        sets = [Path(folder) for folder in case.get("sets", ())]
        feeds = [Path(file) for file in case.get("feeds", ())]
        self.judge: Given | Own = Given(self.path, sets) if sets else Own(self.path, feeds)

    def verdict(self, path: Path) -> tuple[str, str, float]:
        """Return verdict, reason, distance."""
        fault = _fault(path)
        if fault and self.valid:
            return "invalid", fault, 0.0
        interface = _interface(onnx.load(path, load_external_data=False))
        if interface != self.interface:
            changed = sorted({name for name, *_ in set(interface) ^ set(self.interface)})
            return "interface", f"changed: {', '.join(changed)}"[:200], 0.0
        if path.read_bytes() == self.path.read_bytes():
            return "ok", "", 0.0
        return self.judge.judge(path)


@functools.lru_cache(maxsize=1)
def _case(model: str, sets: tuple[str, ...], feeds: tuple[str, ...]) -> Case:
    return Case({"model": model, "sets": sets, "feeds": feeds})


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Describe the original where there is no result, else judge the result."""
    case = request["case"]
    if "result" not in request:
        return describe(Path(case["model"]))
    path = Path(request["result"])
    try:
        size = describe(path)
        refused = size.pop("refused")
        if not request.get("judged", True):
            return size | {"verdict": "invalid" if refused else "unjudged", "reason": refused}
        known = _case(case["model"], tuple(case.get("sets", ())), tuple(case.get("feeds", ())))
        verdict, reason, error = known.verdict(path)
    except Exception as failure:  # a file that is no model
        return {"verdict": "invalid", "reason": _line(failure)}
    shown = error if math.isfinite(error) else None
    return size | {"verdict": verdict, "reason": reason, "error": shown}


if __name__ == "__main__":
    serve(answer)
