"""Shortest names for the tensors of a serialised graph or function and all graphs inside it."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from onnx import FunctionProto, GraphProto, NodeProto

from onnxslim.ir import STANDARD_DOMAINS

_FIRST = string.ascii_letters + "_"
_OTHERS = _FIRST + string.digits


@dataclass(eq=False)
class _Name:
    """What one tensor is called, wherever it is mentioned."""

    text: str
    kept: bool
    uses: int = 0


_Scope = dict[str, _Name]
_Mention = tuple[Any, int | str, _Name]
"""A list of strings and an index, or a message and its field, and the tensor that is meant."""


def shorten(root: GraphProto | FunctionProto) -> int:
    """Rename tensors, those used most to the shortest names; return how many have new names.

    A graph's inputs and outputs keep theirs; a function's have no meaning outside of it.
    """
    free: _Scope = {}
    if isinstance(root, GraphProto):
        mentions = list(_in_graph(root, [free], keeps_interface=True))
    else:
        mentions = list(_in_function(root, free))
    names = list(dict.fromkeys(name for _, _, name in mentions))
    for _, _, name in mentions:
        name.uses += 1
    kept = {name.text for name in names if name.kept}
    moving = [name for name in names if not name.kept]
    moving.sort(key=lambda name: -name.uses)
    texts = itertools.islice((text for text in _texts() if text not in kept), len(moving))
    new = dict(zip(moving, texts, strict=True))
    saved = sum(name.uses * (_size(name.text) - len(text)) for name, text in new.items())
    if saved <= 0:
        return 0
    for holder, place, name in mentions:
        if name in new:
            if isinstance(place, int):
                holder[place] = new[name]
            else:
                setattr(holder, place, new[name])
    return sum(name.text != text for name, text in new.items())


def _texts() -> Iterator[str]:
    for length in itertools.count():
        for rest in itertools.product(_OTHERS, repeat=length):
            for first in _FIRST:
                yield first + "".join(rest)


def _size(text: str) -> int:
    return len(text.encode())


def _define(scope: _Scope, text: str, kept: bool) -> None:
    name = scope.setdefault(text, _Name(text, kept))
    name.kept |= kept


def _meant(scopes: list[_Scope], text: str) -> _Name:
    """Return the tensor that *text* names here: the innermost; unknown names stay as they are."""
    for scope in reversed(scopes):
        if text in scope:
            return scope[text]
    return scopes[0].setdefault(text, _Name(text, True))


def _in_function(function: FunctionProto, free: _Scope) -> Iterator[_Mention]:
    scope: _Scope = {}
    for text in itertools.chain(function.input, *(node.output for node in function.node)):
        _define(scope, text, not text)
    yield from _in_list(function.input, [free, scope])
    yield from _in_nodes(function.node, [free, scope])
    yield from _in_list(function.output, [free, scope])
    yield from _in_fields(function.value_info, "name", [free, scope])


def _in_graph(graph: GraphProto, outer: list[_Scope], keeps_interface: bool) -> Iterator[_Mention]:
    scope: _Scope = {}
    for info in graph.input:
        _define(scope, info.name, keeps_interface)
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for tensor in (*graph.initializer, *sparse):
        _define(scope, tensor.name, False)
    for text in itertools.chain(*(node.output for node in graph.node)):
        _define(scope, text, not text)
    scopes = [*outer, scope]
    if keeps_interface:
        for info in graph.output:
            _meant(scopes, info.name).kept = True
    for infos in (graph.input, graph.output, graph.value_info, graph.initializer, sparse):
        yield from _in_fields(infos, "name", scopes)
    for note in graph.quantization_annotation:
        yield from _in_fields([note], "tensor_name", scopes)
        yield from _in_fields(note.quant_parameter_tensor_names, "value", scopes)
    yield from _in_nodes(graph.node, scopes)


def _in_nodes(nodes: Iterable[NodeProto], scopes: list[_Scope]) -> Iterator[_Mention]:
    for node in nodes:
        yield from _in_list(node.input, scopes)
        yield from _in_list(node.output, scopes)
        foreign = (
            node.domain not in STANDARD_DOMAINS
        )  # onnxruntime's BeamSearch knows inputs by name
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _in_graph(graph, scopes, foreign)


def _in_list(texts: Any, scopes: list[_Scope]) -> Iterator[_Mention]:
    for index, text in enumerate(texts):
        if text:
            yield texts, index, _meant(scopes, text)


def _in_fields(messages: Iterable[Any], field: str, scopes: list[_Scope]) -> Iterator[_Mention]:
    for message in messages:
        yield message, field, _meant(scopes, getattr(message, field))
