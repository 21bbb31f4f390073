"""What a model is made of, as an object and as a table; the names are those of OnnxSlim's users."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxslim import shapes
from onnxslim.errors import InputError
from onnxslim.ir import Model, numpy_type, walk

Shape = tuple[int | str, ...]
_UNKNOWN = "?"
_WIDTH = 100
"""Columns of a table where standard output is no terminal."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, type and shape of a tensor; None where unknown, ``"?"`` for an unknown dimension."""

    name: str
    dtype: np.dtype[Any] | None
    shape: Shape | None


@dataclass(frozen=True)
class OperatorInfo:
    """A node: its name, its operator and what it computes."""

    name: str
    op: str
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is made of.

    ``op_type_counts`` counts the nodes of the graph and its subgraphs, Constant nodes included;
    ``op_info`` has them by name, a node without one by that of its first output. ``model_size``
    are the bytes of the stored weights.
    """

    tag: str
    op_set: str
    ir_version: str
    model_size: int
    op_type_counts: dict[str, int]
    op_info: dict[str, OperatorInfo]
    input_info: tuple[TensorInfo, ...]
    output_info: tuple[TensorInfo, ...]

    @property
    def input_maps(self) -> dict[str, TensorInfo]:
        """The inputs by name."""
        return {info.name: info for info in self.input_info}

    @property
    def output_maps(self) -> dict[str, TensorInfo]:
        """The outputs by name."""
        return {info.name: info for info in self.output_info}


def summarize_model(
    model: str | os.PathLike[str] | onnx.ModelProto | Model, tag: str = "OnnxModel"
) -> ModelInfo:
    """Tell what *model* is made of; *tag* is its title in tables, for a file it is the file's name.

    Shapes and types that the model does not declare are inferred. Raises ModelError.
    """
    if isinstance(model, (str, os.PathLike)):
        tag = Path(model).name
        model = Model.load(model)
    elif isinstance(model, onnx.ModelProto):
        model = Model.from_proto(model)
    skeleton = model.skeleton()
    tensor = _describer(shapes.infer(model, trust_names=True))
    nodes = [node for graph in walk(model.graph) for node in graph.nodes]
    operators = [
        OperatorInfo(node.name or "", node.op, tuple(tensor(t) for t in node.outputs if t.name))
        for node in nodes
    ]
    return ModelInfo(
        tag=tag,
        op_set=str(model.opset),
        ir_version=str(model.ir_version),
        model_size=sum(map(_bytes, _stored(skeleton.graph))),
        op_type_counts=dict(Counter(info.op for info in operators)),
        op_info={_key(info): info for info in operators},
        input_info=tuple(map(tensor, model.graph.inputs)),
        output_info=tuple(map(tensor, model.graph.outputs)),
    )


def _key(info: OperatorInfo) -> str:
    return info.name or (info.outputs[0].name if info.outputs else info.op)


def _describer(facts: shapes.Facts) -> Callable[[Any], TensorInfo]:
    """Describe tensors: what is declared of them, else what is inferred."""

    def describe(tensor: Any) -> TensorInfo:
        declared = facts.shape(tensor) if tensor.shape is None else tensor.shape
        kind = facts.elem_type(tensor)
        shape = None if declared is None else tuple(_UNKNOWN if d is None else d for d in declared)
        return TensorInfo(tensor.name, numpy_type(kind) if kind else None, shape)

    return describe


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors that *graph* and its subgraphs store."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _stored(attribute.g)
            for inner in attribute.graphs:
                yield from _stored(inner)


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return math.prod(tensor.dims) * numpy_type(tensor.data_type).itemsize


# Tables -------------------------------------------------------------------------------------------


def format_bytes(size: int) -> str:
    """Write a number of bytes in the unit that suits it."""
    amount, unit = float(size), "B"
    for larger in ("KB", "MB", "GB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.2f} {unit}"


def print_model_info_as_table(
    model_info_list: ModelInfo | Sequence[ModelInfo], elapsed_time: float | None = None
) -> None:
    """Print summaries side by side, the first as what the others are compared with.

    *elapsed_time* are the seconds that the work took.
    """
    infos = [model_info_list] if isinstance(model_info_list, ModelInfo) else list(model_info_list)
    if not infos:
        raise InputError("no summary to print; give at least one")
    table = Table(show_lines=False)
    table.add_column("")
    for info in infos:
        table.add_column(Text(info.tag), justify="right")
    versions = [f"{info.op_set} / {info.ir_version}" for info in infos]
    table.add_row("opset / IR version", *versions, end_section=True)
    for title, sides in (
        ("in", [info.input_maps for info in infos]),
        ("out", [info.output_maps for info in infos]),
    ):
        for name in dict.fromkeys(name for side in sides for name in side):
            table.add_row(Text(f"{title}: {name}"), *(_typed(side.get(name)) for side in sides))
    table.add_section()
    for op in sorted({op for info in infos for op in info.op_type_counts}):
        first, *others = (info.op_type_counts.get(op, 0) for info in infos)
        counts = [Text(str(n), "green" if n < first else "") for n in others]
        table.add_row(Text(op), str(first), *counts)
    table.add_section()
    table.add_row("weights", *(format_bytes(info.model_size) for info in infos))
    if elapsed_time is not None:
        table.add_row("seconds", *[""] * (len(infos) - 1), f"{elapsed_time:.2f}")
    width = None if sys.stdout.isatty() else _WIDTH
    Console(width=width, highlight=False).print(table)


def _typed(info: TensorInfo | None) -> Text:
    if info is None:
        return Text("")
    shape = _UNKNOWN if info.shape is None else ", ".join(map(str, info.shape))
    return Text(f"{_UNKNOWN if info.dtype is None else info.dtype}[{shape}]")


def dump_model_info_to_disk(model_info: ModelInfo) -> Path:
    """Write the nodes to ``TAG_model_info.csv`` in the working folder, a line for each output."""
    path = Path(f"{model_info.tag}_model_info.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["NodeName", "OpType", "OutputDtype", "OutputShape"])
        for name, info in model_info.op_info.items():
            lead = [name, info.op]
            for output in info.outputs:
                writer.writerow([*lead, output.dtype, output.shape])
                lead = ["", ""]
    return path
