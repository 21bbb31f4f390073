"""Smaller models that fail in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from benchmarks.fuzz.oracle import Case, Find, fitting
from benchmarks.fuzz.sweep import sweep
from benchmarks.fuzz.values import TYPES, declaration, load


def shrink(case: Case, find: Find, seconds: float = 60.0) -> Case:
    """Return the smallest variant found that fails in the same way."""
    limit = time.process_time() + seconds
    progress = True
    while progress and time.process_time() < limit:
        progress = False
        for variant in smaller(case):
            if time.process_time() > limit:
                break
            if still_fails(variant, find):
                case, progress = variant, True
                break
    return case


def still_fails(case: Case, find: Find) -> bool:
    """Say whether *case* is valid and its find is of the same kind."""
    try:
        onnx.checker.check_model(case.proto)
        found = case.check()
    except Exception:  # whatever is wrong with the variant, it is no simpler find
        return False
    if found is None or found.kind != find.kind:
        return False
    spoken = find.kind in ("crash", "broken", "fails", "onnxruntime")
    return not spoken or found.key[:60] == find.key[:60]


def smaller(case: Case) -> Iterator[Case]:
    """Yield simpler models."""
    yield from fewer_outputs(case)
    yield from without_nodes(case)
    yield from bypassed(case)
    yield from without_attributes(case)
    yield from fixed_inputs(case)


def variant(case: Case) -> Case:
    """Return a copy to change."""
    copy = ModelProto()
    copy.CopyFrom(case.proto)
    return replace(case, proto=copy, reach=lambda stage: None)


def swept(case: Case) -> Case:
    """Remove what nobody reads."""
    sweep(case.proto)
    case.feeds = fitting(case.feeds, case.proto)
    return case


def fewer_outputs(case: Case) -> Iterator[Case]:
    """Keep one output, or sweep."""
    if len(case.proto.graph.output) > 1:
        for index in range(len(case.proto.graph.output)):
            made = variant(case)
            keep = made.proto.graph.output[index]
            for output in [o for o in made.proto.graph.output if o.name != keep.name]:
                made.proto.graph.output.remove(output)
            yield swept(made)
    plain = swept(variant(case))
    if plain.proto.ByteSize() < case.proto.ByteSize():
        yield plain


def without_nodes(case: Case) -> Iterator[Case]:
    """Feed what a node computed, or end there."""
    values = every_value(case)
    outputs = {output.name for output in case.proto.graph.output}
    for index, node in enumerate(case.proto.graph.node):
        known = [name for name in node.output if name in values]
        if node.op_type == "Constant" or len(known) < len(node.output):
            continue
        if not outputs.intersection(node.output):
            yield _fed(case, index, {name: values[name] for name in known})
        if known[0] not in outputs:
            made = variant(case)
            del made.proto.graph.output[:]
            kind, held = values[known[0]]
            made.proto.graph.output.append(declaration(known[0], kind, _common_dims(kind, held)))
            made = swept(made)
            if len(made.proto.graph.node) < len(case.proto.graph.node):
                yield made


def _fed(case: Case, index: int, values: dict[str, tuple[str, list[Any]]]) -> Case:
    """Let inputs take the place of a node."""
    made = variant(case)
    graph = made.proto.graph
    del graph.node[index]
    count = min(len(held) for _, held in values.values())
    made.feeds = [dict(feed) for feed in case.feeds[:count]]
    for name, (kind, held) in values.items():
        graph.input.append(declaration(name, kind, _common_dims(kind, held)))
        for feed, value in zip(made.feeds, held, strict=False):
            feed[name] = value
    return swept(made)


def _common_dims(kind: str, held: list[Any]) -> list[int | None] | None:
    """Return the dimensions of several values, None where they differ."""
    if not kind.startswith("tensor") or len({np.ndim(value) for value in held}) > 1:
        return None
    columns = zip(*(np.shape(value) for value in held), strict=True)
    return [dims[0] if len(set(dims)) == 1 else None for dims in columns]


def every_value(case: Case) -> dict[str, tuple[str, list[Any]]]:
    """Return types and values of all that top-level nodes compute, a value for each feed."""
    probe = variant(case).proto
    names = [name for node in probe.graph.node for name in node.output if name]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    runs = []
    try:
        session = load(probe)
        for feed in case.feeds:
            runs.append(session.run(None, feed))
    except Exception:  # some feeds run nowhere; those before are enough
        if not runs:
            return {}
    types = [item.type for item in session.get_outputs()]
    return {
        name: (kind, [run[i] for run in runs])
        for i, (name, kind) in enumerate(zip(names, types, strict=True))
        if kind in TYPES or kind.startswith("seq(tensor")
    }


def bypassed(case: Case) -> Iterator[Case]:
    """Let the readers of a node read one of its inputs."""
    for index, node in enumerate(case.proto.graph.node):
        for name in dict.fromkeys(filter(None, node.input)):
            made = variant(case)
            del made.proto.graph.node[index]
            for other in made.proto.graph.node:
                for position, read in enumerate(other.input):
                    if read == node.output[0]:
                        other.input[position] = name
            yield swept(made)


def without_attributes(case: Case) -> Iterator[Case]:
    """Take an attribute away."""
    for index, node in enumerate(case.proto.graph.node):
        for position in range(len(node.attribute)):
            if not node.attribute[position].HasField("g"):
                made = variant(case)
                del made.proto.graph.node[index].attribute[position]
                yield made


def fixed_inputs(case: Case) -> Iterator[Case]:
    """Use one feed and its sizes."""
    free = any(
        not d.HasField("dim_value")
        for i in case.proto.graph.input
        for d in i.type.tensor_type.shape.dim
    )
    for feed in case.feeds if free or len(case.feeds) > 1 else ():
        made = variant(case)
        made.feeds = [feed]
        for info in made.proto.graph.input:
            if info.name in feed and info.type.HasField("tensor_type"):
                elem = info.type.tensor_type.elem_type
                shape = np.shape(feed[info.name])
                info.CopyFrom(helper.make_tensor_value_info(info.name, elem, shape))
        yield made
