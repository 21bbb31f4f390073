"""Layers that mix channels: every output channel is a weighted sum over input channels."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onnxslim.ir import Array, Constant, Node
from onnxslim.passes.channels._values import NOWHERE, ONE, Channels

SPREAD = 100.0
"""How many standard deviations a normalised value is taken to stay within."""
_CHUNK = 1 << 22


class Way(enum.IntEnum):
    """How a layer can do without an input channel whose weights are not zero."""

    NOT = 0
    NOTHING = 1  # the channel is zero
    BIAS = 2  # it is constant, and moves into the bias
    MERGE = 3  # it is a multiple of another channel, which takes over its weights


@dataclass(eq=False)
class Linear:
    """A layer with *groups* blocks of weights.

    ``view(weight)`` is an array (outputs, inputs of a group, taps), ``back`` its inverse.
    """

    node: Node
    weight: Array
    """(outputs, inputs of a group, taps)"""
    back: Callable[[Array], Array]
    inputs: Channels
    """Told apart along one axis, which holds groups x inputs of a group."""
    rows: Array
    """Places of the output channels."""
    bias: Array
    """(outputs,)"""
    takes_bias: bool
    """Whether a constant input gives a constant output: no padding, and a bias can be had."""
    unit: float
    """Unit roundoff of the type it computes in."""
    groups: int = 1
    rewritable: bool = True
    """Whether it has weights that can take over those of another channel."""
    ways: Array = field(default_factory=lambda: NOWHERE)
    """A `Way` for every input channel, once there is a `plan`."""
    target: Array = field(default_factory=lambda: NOWHERE)
    """The input channel that takes over the weights of another; itself where none does."""

    @property
    def base(self) -> Array:
        """Value numbers of the input channels."""
        return self.inputs.base.reshape(-1)

    @property
    def scale(self) -> Array:
        """Scales of the input channels."""
        return self.inputs.scale.reshape(-1)

    @property
    def slack(self) -> Array:
        """Slacks of the input channels."""
        return self.inputs.slack.reshape(-1)

    def used(self, rows: Array) -> Array:
        """Return a mask of the input channels whose weights are not all zero in *rows*."""
        width, found = self.weight.shape[1], list[Array]()
        for block, chosen in zip(self._blocks(), np.split(rows, self.groups), strict=True):
            mask = np.zeros(width, bool)
            indices = np.flatnonzero(chosen)
            step = max(1, _CHUNK // max(1, width * self.weight.shape[2]))
            sizes = [min(16, step)] if len(indices) > 16 else []
            start = 0
            while start < len(indices) and not mask.all():
                count = sizes.pop() if sizes else step
                part = block[indices[start : start + count]]
                mask |= (part != 0).any((0, 2))
                start += count
            found.append(mask)
        return np.concatenate(found)

    def _blocks(self) -> list[Array]:
        height = self.weight.shape[0] // self.groups
        return [self.weight[g * height : (g + 1) * height] for g in range(self.groups)]

    def group(self, channel: int) -> slice:
        """Return the outputs that can read an input channel."""
        height = self.weight.shape[0] // self.groups
        index = channel // self.weight.shape[1]
        return slice(index * height, (index + 1) * height)

    def column(self, channel: int) -> Array:
        """Return the weights of an input channel, (outputs of the group, taps), in float64."""
        column = self.weight[self.group(channel), channel % self.weight.shape[1]]
        return column.astype(np.float64)

    def idle(self, columns: Array) -> Array:
        """Return a mask of the outputs whose weights are all zero in *columns*."""
        masks = []
        for g, block in enumerate(self._blocks()):
            width = block.shape[1]
            indices = np.flatnonzero(columns[g * width : (g + 1) * width])
            rows = np.arange(len(block))
            for part in np.array_split(indices, max(1, len(indices) // 64)) if len(indices) else ():
                first = (block[rows][:, part[:1]] == 0).all((1, 2))
                rows = rows[first]
                rows = rows[(block[rows][:, part] == 0).all((1, 2))]
                if not len(rows):
                    break
            masks.append(np.isin(np.arange(len(block)), rows))
        return np.concatenate(masks)

    # Ways to do without

    def plan(self, constants: bool, duplicates: bool) -> None:
        """Find out how each input channel can be done without."""
        base, scale = self.base, self.scale
        ways = np.zeros(len(base), np.int64)
        target = np.arange(len(base))
        if constants:
            known = base == ONE
            ways[known & (scale == 0)] = Way.NOTHING
            rest = known & (scale != 0)
            if self.takes_bias:
                ways[rest] = Way.BIAS
            elif self.rewritable:
                self._merge(np.flatnonzero(rest), ways, target)
        if duplicates and self.rewritable:
            self._merge(np.flatnonzero((base != ONE) & (scale != 0)), ways, target)
        self.ways, self.target = ways, target
        self._judge()

    def _merge(self, candidates: Array, ways: Array, target: Array) -> None:
        """Merge channels of the same base, within a group, into the largest of them."""
        width = self.weight.shape[1]
        found: dict[tuple[int, int], list[int]] = {}
        for channel in candidates.tolist():
            found.setdefault((int(self.base[channel]), channel // width), []).append(channel)
        for members in found.values():
            chosen = max(members, key=lambda channel: (abs(self.scale[channel]), -channel))
            for channel in members:
                if channel != chosen:
                    ways[channel], target[channel] = Way.MERGE, chosen

    def _judge(self) -> None:
        """Take only those near-constant channels whose deviations drown in rounding errors.

        The sum of what they may add to an output stays below the bound on the rounding error of
        that output, a sum of n products: n u (|w| · |x|), plus the smallest normal number.
        Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
        """
        near = np.flatnonzero((self.slack > 0) & (self.ways != Way.NOT))
        if not len(near):
            return
        budget = self._rounding()
        cost = np.zeros((len(budget), len(near)))
        for index, channel in enumerate(near.tolist()):
            weights = np.abs(self.column(channel)).sum(1)
            cost[self.group(channel), index] = weights * self._deviation(channel)
        worst = (cost / budget[:, None]).max(0)
        spent = np.zeros(len(budget))
        for index in np.argsort(worst, kind="stable").tolist():
            if (spent + cost[:, index] <= budget).all():
                spent += cost[:, index]
            else:
                self.ways[near[index]] = Way.NOT

    def _deviation(self, channel: int) -> float:
        other = int(self.target[channel])
        if other == channel:
            return float(self.slack[channel])
        ratio = abs(self.scale[channel] / self.scale[other])
        return float(self.slack[channel] + ratio * self.slack[other])

    def _rounding(self) -> Array:
        """Return for every output the bound on the rounding error of its sum."""
        size = np.broadcast_to(self.inputs.size.reshape(-1), self.base.shape)
        total = np.abs(self.bias)
        for channel in np.flatnonzero(size > 0).tolist():
            total[self.group(channel)] += np.abs(self.column(channel)).sum(1) * size[channel]
        terms = self.weight.shape[1] * self.weight.shape[2] + 1
        return np.asarray(terms * self.unit * total + float(np.finfo(np.float32).tiny))

    # The result

    def without(self, columns: Array, rows: Array) -> tuple[Array, Array]:
        """Return the weights and the bias that are left when only *columns* and *rows* stay."""
        bias = self.bias.copy()
        changed: dict[int, Array] = {}
        for channel in np.flatnonzero(~columns).tolist():
            way = self.ways[channel]
            if way == Way.BIAS:
                bias[self.group(channel)] += self.column(channel).sum(1) * self.scale[channel]
            elif way == Way.MERGE:
                other = int(self.target[channel])
                ratio = self.scale[channel] / self.scale[other]
                held = changed.get(other)
                held = self.column(other) if held is None else held
                changed[other] = held + self.column(channel) * ratio
        return self._kept(columns, rows, changed), bias[rows]

    def fits(self, columns: Array, rows: Array) -> bool:
        """Say whether the type of the weights holds what is left."""
        weights, bias = self.without(columns, rows)
        with np.errstate(over="ignore"):
            made = bias.astype(weights.dtype)
        return bool(np.isfinite(weights.astype(np.float32)).all() and np.isfinite(made).all())

    def _kept(self, columns: Array, rows: Array, changed: dict[int, Array]) -> Array:
        width = self.weight.shape[1]
        blocks = []
        for g, block in enumerate(self._blocks()):
            mask = columns[g * width : (g + 1) * width]
            chosen = np.split(rows, self.groups)[g]
            part = np.array(block[chosen][:, mask])
            for channel, values in changed.items():
                if channel // width == g and mask[channel % width]:
                    index = int(mask[: channel % width].sum())
                    with np.errstate(over="ignore"):
                        part[:, index] = values[chosen].astype(part.dtype)
            blocks.append(part)
        return self.back(np.concatenate([block for block in blocks if len(block)]))


def unit_roundoff(constant: Constant) -> float:
    """Return the unit roundoff of floating-point numbers of a constant's type."""
    bits = {"float16": 11, "bfloat16": 8, "float64": 53}.get(constant.dtype.name, 24)
    return float(2.0**-bits)
