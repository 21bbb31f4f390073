"""What ONNX says of an operator's versions, and which of them are one and the same.

Two neighbouring versions of an operator mean the same for a node when nothing but types, and what
the node leaves at its default, tells them apart. That is derived from the operators' schemas;
where meaning changed under an equal signature, `upward` and `downward` have an adapter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import onnx.defs
from onnx import helper
from onnx.defs import OpSchema

HINTS = ("consumed_inputs",)
"""Attributes that told old runtimes what memory they may reuse, and mean nothing."""


@functools.cache
def _history() -> dict[str, dict[int, OpSchema]]:
    found: dict[str, dict[int, OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            found.setdefault(schema.name, {})[schema.since_version] = schema
    return found


def schema(op: str, version: int) -> OpSchema | None:
    """Return the schema of *op* in opset *version*; None where that has no such operator."""
    since = [number for number in _history().get(op, ()) if number <= version]
    return _history()[op][max(since)] if since else None


def following(op: str, version: int, target: int) -> OpSchema | None:
    """Return the next version of *op* after opset *version*, up to *target*."""
    since = [number for number in _history().get(op, ()) if version < number <= target]
    return _history()[op][min(since)] if since else None


def default(attribute: Any) -> Any:
    """Return the default of an attribute of a schema; None where it has none."""
    proto = attribute.default_value
    value = helper.get_attribute_value(proto) if proto.type else None
    return value.decode() if isinstance(value, bytes) else value


def formal(parameters: Sequence[Any], slot: int) -> Any:
    """Return the formal parameter that an operand belongs to; None where there is none."""
    if slot < len(parameters):
        return parameters[slot]
    variadic = OpSchema.FormalParameterOption.Variadic
    return parameters[-1] if parameters and parameters[-1].option == variadic else None


def needed(parameter: Any) -> bool:
    """Say whether an operand of this kind must be there."""
    return parameter is not None and bool(parameter.option == OpSchema.FormalParameterOption.Single)
