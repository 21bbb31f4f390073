"""Any operator of the schema."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from onnx import defs

from benchmarks.fuzz.grower import Grower, Refused, an_axis, motif, some_axes
from benchmarks.fuzz.motifs.arithmetic import operand_shape
from benchmarks.fuzz.motifs.recipes import RECIPES
from benchmarks.fuzz.values import FLOATS, MADE, TYPES, Value

ELSEWHERE = frozenset(
    {"Constant", "If", "ImageDecoder", "Loop", "Optional", "OptionalGetElement"}
    | {"OptionalHasElement", "Scan", "SequenceMap", "SequenceEmpty"}
)
"""What other motifs make, and ImageDecoder, which wants files."""


@functools.cache
def schemas(opset: int) -> list[defs.OpSchema]:
    """Return the operators of an opset as they were then."""
    newest: dict[str, defs.OpSchema] = {}
    for schema in defs.get_all_schemas_with_history():
        known = newest.get(schema.name)
        if schema.domain or schema.since_version > opset:
            continue
        if known is None or known.since_version < schema.since_version:
            newest[schema.name] = schema
    return [
        schema
        for name, schema in sorted(newest.items())
        if name not in ELSEWHERE and (not schema.deprecated or name in RECIPES)
    ]


WORDS: dict[str, tuple[str, ...]] = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "approximate": ("none", "tanh"),
    "reduction": ("none", "add", "mul", "mean", "sum", "max", "min"),
    "direction": ("forward", "reverse", "LEFT", "RIGHT", "bidirectional"),
    "mode": ("constant", "edge", "reflect", "nearest", "linear", "cubic", "DCR", "CRD", "bilinear"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor"),
    "padding_mode": ("zeros", "border", "reflection"),
    "equation": ("ij,jk->ik", "ij->ji", "i,i->", "...ij->...ji"),
}


def attribute(g: Grower, name: str, kind: defs.OpSchema.AttrType, rank: int) -> Any:
    """Make up an attribute; None where nothing sensible is known."""
    types = defs.OpSchema.AttrType
    if name in ("axis", "batch_axis", "time_axis"):
        return an_axis(g, rank)
    if name in ("to", "dtype", "output_dtype"):
        return TYPES[g.choose(*FLOATS, "tensor(int64)", "tensor(int32)")]
    lists: dict[str, Callable[[], list[int]]] = {
        "axes": lambda: some_axes(g, rank),
        "perm": lambda: g.random.sample(range(rank), rank),
        "kernel_shape": lambda: [g.choose(1, 2, 3) for _ in range(rank - 2)],
        "strides": lambda: [g.choose(1, 2) for _ in range(rank - 2)],
        "dilations": lambda: [g.choose(1, 2) for _ in range(rank - 2)],
        "pads": lambda: [g.choose(0, 1) for _ in range(2 * (rank - 2))],
    }
    if name in lists:
        return lists[name]()
    if kind == types.INT:
        return g.choose(0, 1)  # most of them are truth values, which have no others
    if kind == types.FLOAT:
        return g.choose(0.0, 0.5, 1.0, 2.0, -1.0)
    if kind == types.STRING and name in WORDS:
        return g.random.choice(WORDS[name])
    return None


INPUTS: dict[str, Callable[[Grower, Value | None], list[int]]] = {
    "axes": lambda g, x: some_axes(g, x.rank if x else 1),
    "shape": lambda g, x: list(x.shape if x else (1,)),
    "repeats": lambda g, x: [g.choose(1, 2) for _ in range(x.rank if x else 1)],
    "pads": lambda g, x: [g.choose(0, 1) for _ in range(2 * (x.rank if x else 1))],
    "starts": lambda g, x: [g.choose(0, 1)],
    "ends": lambda g, x: [g.choose(1, 2, -1)],
    "k": lambda g, x: [1],
    "K": lambda g, x: [1],
}


def operand(
    g: Grower, formal: defs.OpSchema.FormalParameter, kind: str, first: Value | None
) -> Value:
    """Return something for an input."""
    if formal.name in INPUTS and kind == "tensor(int64)" and g.flip(0.8):
        return g.ints(*INPUTS[formal.name](g, first))
    found = [v for v in g.scope.visible() if v.type == kind]
    alike = [v for v in found if first is not None and v.rank == first.rank]
    if found and g.flip(0.7):
        return g.random.choice(alike if alike and g.flip() else found)
    if kind not in MADE:
        raise Refused
    shape = g.shape() if first is None or g.flip(0.3) else operand_shape(g, first.shape)
    if first is None and g.flip() and len(g.inputs) < 5 and not g.scope.function:
        return g.input(kind)
    return g.constant(g.array(kind, shape), kind)


@motif(8)
def anything(g: Grower) -> None:
    """Any operator of the schema; several attempts, since many are refused."""
    for _ in range(3):
        schema = g.random.choice(schemas(g.opset))
        for _ in range(3):
            made = RECIPES.get(schema.name)
            try:
                if made is not None and g.flip(0.7):
                    made(g, schema.name)
                else:
                    random_node(g, schema)
                return
            except (Refused, IndexError, ValueError):
                continue


def random_node(g: Grower, schema: defs.OpSchema) -> None:
    """Add a node with random operands and attributes; raises Refused."""
    read = operands(g, schema)
    rank = read[0].rank if read and read[0] is not None else 0
    attrs = {}
    for name, declared in schema.attributes.items():
        if declared.required or g.flip(0.4):
            made = attribute(g, name, declared.type, rank)
            if made is not None:
                attrs[name] = made
    if attrs.get("auto_pad", "NOTSET") != "NOTSET":
        attrs.pop("pads", None)  # ONNX forbids both, onnxruntime adds them
    outputs = g.random.randint(schema.min_output or 1, min(schema.max_output, 3) or 1)
    if schema.name == "Split" and outputs > 1:
        raise Refused  # onnxruntime may not survive it
    g.node(schema.name, read, outputs, **attrs)


def operands(g: Grower, schema: defs.OpSchema) -> list[Value | None]:
    """Make up operands; those that share a type parameter have one type."""
    bound: dict[str, str] = {}
    options = defs.OpSchema.FormalParameterOption
    kinds = {v.type for v in g.scope.visible() if not v.known}
    read: list[Value | None] = []
    for formal in schema.inputs:
        if formal.option == options.Optional and g.flip():
            read.append(None)
            continue
        several = formal.option == options.Variadic
        for _ in range(g.choose(1, 2, 3) if several else 1):
            key = formal.type_str
            if key not in bound or (several and not formal.is_homogeneous):
                allowed = sorted(formal.types & MADE) or sorted(formal.types)
                likely = [kind for kind in allowed if kind in kinds]
                bound[key] = g.random.choice(likely if likely and g.flip(0.85) else allowed)
            first = next((v for v in read if v is not None), None)
            read.append(operand(g, formal, bound[key], first))
    while read and read[-1] is None:
        read.pop()
    return read
