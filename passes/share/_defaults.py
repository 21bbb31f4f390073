"""Attributes that say what an operator does without them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from onnx import AttributeProto, NodeProto, TensorProto, defs

from onnxslim.ir import STANDARD_DOMAINS

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "DeformConv")
_INTEGERS = ("ConvInteger", "QLinearConv")
_STATED_FROM = 11
"""The opset whose definitions say that strides and dilations are 1 if not given."""
_PADS_STATED = {"LpPool": 11, "DeformConv": 19}
_WEIGHT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "DeformConv": 1}
"""Which input the kernel's shape is inferred from."""


def redundant(
    node: NodeProto, versions: Mapping[str, int], weights: Mapping[str, Sequence[int]]
) -> list[AttributeProto]:
    """Return the attributes of *node* that may go.

    *versions* are the operator sets by domain, *weights* the shapes of initializers by name.
    """
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    version = versions.get(domain, versions.get("ai.onnx", 0) if not domain else 0)
    defaults = _defaults(node.op_type, version, domain)
    return [
        attribute
        for attribute in node.attribute
        if not attribute.ref_attr_name
        and (
            defaults.get(attribute.name) == _content(attribute)
            or (not domain and _by_rule(node, attribute, version, weights))
        )
    ]


@functools.cache
def _defaults(op: str, version: int, domain: str) -> dict[str, bytes]:
    """Return the defaults that an operator's definition gives, serialised."""
    try:
        schema = defs.get_schema(op, version, domain)
    except defs.SchemaError:
        return {}
    return {
        name: _content(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if not attribute.required and attribute.default_value.type
    }


def _content(attribute: AttributeProto) -> bytes:
    plain = AttributeProto()
    plain.CopyFrom(attribute)
    plain.ClearField("name")
    plain.ClearField("doc_string")
    return plain.SerializeToString(deterministic=True)


def _by_rule(
    node: NodeProto,
    attribute: AttributeProto,
    version: int,
    weights: Mapping[str, Sequence[int]],
) -> bool:
    """Say whether *attribute* is a default that the definition gives in words."""
    op, values = node.op_type, list(attribute.ints)
    if op == "Transpose" and attribute.name == "perm":
        return values == list(reversed(range(len(values))))
    if op not in (*_WINDOWS, *_INTEGERS):
        return False
    if attribute.name in ("strides", "dilations"):
        return set(values) == {1} and (version >= _STATED_FROM or op in _INTEGERS)
    if attribute.name == "pads":
        return set(values) == {0} and version >= _PADS_STATED.get(op, 1)
    if attribute.name == "kernel_shape" and op in _WEIGHT:
        weight = node.input[_WEIGHT[op]]
        return weight in weights and list(weights[weight][2:]) == values
    return False


def weight_shapes(
    initializers: Sequence[TensorProto], inputs: Sequence[str]
) -> dict[str, Sequence[int]]:
    """Return the shapes of *initializers* that are not among *inputs*."""
    return {t.name: t.dims for t in initializers if t.name not in set(inputs)}
