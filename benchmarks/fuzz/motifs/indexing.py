"""Recipes for what is addressed by indices, and for text."""

# ruff: noqa: D103 (a recipe is described by the operators it is for)

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fuzz.grower import Grower, an_axis
from benchmarks.fuzz.motifs.recipes import data, indices, needs, recipe
from benchmarks.fuzz.values import TYPES

TEXT = "tensor(string)"


@recipe("Scatter", "ScatterElements", "GatherElements")
def elements(g: Grower, op: str) -> None:
    x = g.any_tensor()
    axis = an_axis(g, x.rank)
    shape = [g.random.randint(0, dim) for dim in x.shape]
    at = indices(g, x.shape[axis] if x.rank else 1, shape)
    if op == "GatherElements":
        g.node(op, [x, at], axis=axis)
        return
    attrs: dict[str, Any] = {}
    if op == "ScatterElements" and g.opset >= 16 and g.flip(0.4):
        attrs["reduction"] = g.choose("add", "mul")
    g.node(op, [x, at, data(g, shape, x.type)], axis=axis, **attrs)


@recipe("ScatterND", "GatherND")
def tuples(g: Grower, op: str) -> None:
    x = g.any_tensor()
    width, count = g.random.randint(1, max(x.rank, 1)), g.choose(1, 2)
    at = np.stack([g.numbers.integers(0, max(dim, 1), count) for dim in x.shape[:width]], axis=-1)
    where = g.constant(at, "tensor(int64)")
    if op == "GatherND":
        g.node(op, [x, where])
    else:
        g.node(op, [x, where, data(g, (count, *x.shape[width:]), x.type)])


@recipe("TensorScatter")
def cache(g: Grower, op: str) -> None:
    g.node(op, [data(g, (2, 2, 4, 3)), data(g, (2, 2, 1, 3)), indices(g, 4, (2,))])


@recipe("OneHot")
def one_hot(g: Grower, op: str) -> None:
    needs(g, 9)
    shape, kind = g.choose((), (3,), (2, 3)), g.choose("tensor(float)", "tensor(int64)")
    depth, values = g.scalar(4, "tensor(int64)"), g.constant([0, g.choose(1, 2)], kind)
    x = data(g, shape, "tensor(int64)")
    g.node(op, [x, depth, values], axis=an_axis(g, len(shape) + 1))


@recipe("TopK")
def top(g: Grower, op: str) -> None:
    x = g.pick(ok=lambda v: v.rank > 0 and not v.rough)
    axis = an_axis(g, x.rank)
    count = g.random.randint(0, x.shape[axis])
    if g.opset < 10:
        g.node(op, [x], 2, axis=axis, k=count)
    else:
        attrs = {"largest": g.choose(0, 1)} if g.opset >= 11 else {}
        g.node(op, [x, g.ints(count)], 2, axis=axis, **attrs)


@recipe("Compress")
def compress(g: Grower, op: str) -> None:
    x = g.any_tensor()
    axis = an_axis(g, x.rank)
    chosen = g.constant(g.array("tensor(bool)", (x.shape[axis],)), "tensor(bool)")
    g.node(op, [x, chosen], axis=axis)


@recipe("ReverseSequence")
def reverse(g: Grower, op: str) -> None:
    x = g.pick(ok=lambda v: v.rank >= 2 and 0 not in v.shape)
    time, batch = g.choose((0, 1), (1, 0))
    lengths = g.constant(g.numbers.integers(1, x.shape[time] + 1, (x.shape[batch],)),
                         "tensor(int64)")  # fmt: skip
    g.node(op, [x, lengths], time_axis=time, batch_axis=batch)


@recipe("EyeLike")
def eye(g: Grower, op: str) -> None:
    attrs: dict[str, Any] = {"k": g.choose(0, 1, -1)}
    if g.flip():
        attrs["dtype"] = TYPES[g.choose("tensor(float)", "tensor(int64)")]
    g.node(op, [data(g, (2, 3), "tensor(float)")], **attrs)


@recipe("CenterCropPad")
def center(g: Grower, op: str) -> None:
    x = g.any_tensor()
    g.node(op, [x, g.ints(*[g.choose(1, 2, 3) for _ in x.shape])])


@recipe("Trilu")
def triangle(g: Grower, op: str) -> None:
    needs(g, 14)
    x = g.pick(ok=lambda v: v.rank >= 2)
    offset = [g.scalar(g.choose(-1, 0, 1), "tensor(int64)")] if g.flip() else []
    g.node(op, [x, *offset], upper=g.choose(0, 1))


@recipe("GlobalMaxPool", "Unique", "NonZero", "Hardmax", "IsNaN", "IsInf")
def plain(g: Grower, op: str) -> None:
    g.node(op, [g.pick(ok=lambda v: not v.rough)])


# Text ---------------------------------------------------------------------------------------------


@recipe("StringNormalizer", "RegexFullMatch", "StringConcat", "StringSplit")
def text(g: Grower, op: str) -> None:
    x = data(g, (3,), TEXT)
    if op == "StringNormalizer":
        g.node(op, [x], case_change_action=g.choose("LOWER", "UPPER", "NONE"))
    elif op == "RegexFullMatch":
        g.node(op, [x], pattern=g.choose("a.*", "[a-c]"))
    elif op == "StringConcat":
        g.node(op, [x, g.constant(g.array(TEXT, g.choose((3,), (1,), ())), TEXT)])
    else:
        g.node(op, [x], 2, delimiter="a")


@recipe("TfIdfVectorizer")
def counts(g: Grower, op: str) -> None:
    attrs: dict[str, Any] = {"pool_int64s": [0, 1, 2, 0, 1, 1, 2], "ngram_counts": [0, 3]}
    x = data(g, (4,), "tensor(int64)")
    g.node(op, [x], mode=g.choose("TF", "IDF", "TFIDF"), min_gram_length=1, max_gram_length=2,
           max_skip_count=g.choose(0, 1), ngram_indexes=[0, 1, 2, 3, 4], **attrs)  # fmt: skip
