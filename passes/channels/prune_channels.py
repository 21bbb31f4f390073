"""Whole channels become zeros."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from onnxslim import ir, saliency
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Graph, Model, Node
from onnxslim.passes.channels._analysis import Analysis
from onnxslim.passes.channels._losses import Read, losses, observed
from onnxslim.passes.channels._parameters import LAYERS, Parameter, parameters
from onnxslim.passes.channels._table import TRANSFERS
from onnxslim.passes.channels._values import Sets

Criterion = Literal["magnitude", "gamma", "error", "fisher"]


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Set the channels to zero that matter least, for other passes to remove.

    What is added up, or scaled by one another, is one group: its channels go together, and all
    that makes them becomes zero, so that ``prune-channels,lossless`` removes them. *ratio* is the
    share of channels that go, of each group, or with ``scope=model`` of all, compared relative to
    their groups. *multiple* rounds the number of those that stay up: others run slowly, so that
    ``lossless`` would not remove them (``lossless-bytes`` does). ``criterion`` says what matters:
    the magnitude of weights; the gamma of batch normalizations (Liu et al. 2017, Network Slimming);
    the error in the outputs of the layers that read the channel (needs calibration data); or
    Fisher's information (needs --importance). Channels of outputs stay.
    """

    name = "prune-channels"
    effect = Effect.LOSSY
    once = True

    ratio: float = 0.3
    criterion: Criterion = "magnitude"
    scope: Literal["group", "model"] = "group"
    multiple: int = 8

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is not in [0, 1)")
        if self.multiple < 1:
            raise ValueError(f"multiple={self.multiple} is not positive")

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given."""
        if self.criterion == "fisher" and not importance:
            return "Fisher's information; give it with --importance FILE.npz, see docs/prune.md"
        if self.criterion == "error" and not data:
            return "calibration data; give it with -c FILE"
        return None

    def apply(self, model: Model, context: Context) -> int:
        """Choose the channels that go, group by group or among all, and let them go."""
        groups = []
        reads = observed(model, context) if self.criterion == "error" else []
        for graph in list(ir.walk(model.graph)):
            if any(node.operator in LAYERS for node in graph.nodes):
                groups += list(self._groups(model, graph, context, reads))
        changes = 0
        for group, count in zip(groups, self._counts(groups), strict=True):
            going = self._rounded(group, count)
            if going < 1:
                context.decline(group.node, self._too_few(group))
                continue
            made = group.clear(going, model)
            if made:
                context.notes.append(group.note(going))
            changes += made
        if changes:
            context.forget()
        return changes

    def _groups(
        self, model: Model, graph: Graph, context: Context, reads: Sequence[Read]
    ) -> Iterator[Group]:
        """Yield the groups of *graph* with the scores of their channels."""
        analysis = Analysis(model, graph, context.facts(model), context)
        analysis.run(TRANSFERS)
        sets = analysis.settle()
        found = parameters(analysis, sets)
        _explain(analysis, found, sets, context)
        lost = losses(reads, analysis, sets)
        for members, own in _coupled(found, sets):
            if self.criterion == "error":
                scores = _lost(members, lost)
            else:
                scores = self._scores(members, own, context)
            if isinstance(scores, str):
                context.decline(own[0].node, scores)
            else:
                yield Group(own, members, scores)

    def _scores(self, members: Array, own: Sequence[Parameter], context: Context) -> Array | str:
        """Return how much each of the sets *members* matters, or why that cannot be told."""
        total, told = np.zeros(len(members)), False
        for one in own:
            found = self._measured(one, context)
            if found is not None:
                free = np.isin(one.sets, members)
                np.add.at(total, np.searchsorted(members, one.sets[free]), found[free])
                told |= one.is_weight or one.is_gamma
        if not told:
            return {
                "magnitude": "its weights are computed",
                "gamma": "no batch normalization scales its channels",
                "fisher": "nothing says how important its weights are",
            }[self.criterion]
        return total if np.isfinite(total).all() else "its weights are not all finite"

    def _measured(self, one: Parameter, context: Context) -> Array | None:
        """Return what each channel of a constant matters; None where it says nothing."""
        rows = one.rows(one.tensor.values.astype(np.float64))
        if self.criterion == "fisher":
            given = (context.importance or {}).get(one.tensor.name)
            if given is None or given.shape != one.tensor.shape:
                return None
            return np.asarray(saliency.fisher(rows, one.rows(given)).sum(1))
        if self.criterion == "gamma":
            return np.abs(rows[:, 0]) if one.is_gamma else None
        if not one.is_weight:
            return None
        power = saliency.magnitude(rows).sum(1)
        return np.asarray(power / (power.mean() or 1.0))

    def _counts(self, groups: Sequence[Group]) -> list[int]:
        """Return how many channels of each group shall go, before rounding."""
        if self.scope == "group" or not groups:
            return [self._share_of(len(group.members)) for group in groups]
        relative = [saliency.layer_adaptive(group.scores) for group in groups]
        chosen = saliency.lowest(np.concatenate(relative), self._share_of(sum(map(len, relative))))
        ends = np.cumsum([len(one) for one in relative])[:-1]
        return [int(part.sum()) for part in np.split(chosen, ends)]

    def _share_of(self, size: int) -> int:
        return math.floor(Fraction(str(self.ratio)) * size)

    def _rounded(self, group: Group, count: int) -> int:
        """Return how many sets go so that a multiple of channels stays, one set at least."""
        step = self.multiple // math.gcd(self.multiple, group.repeats)
        left = max(1, len(group.members) - count)
        return len(group.members) - -(-left // step) * step

    def _too_few(self, group: Group) -> str:
        if self._rounded(group, len(group.members) - 1) < 1:
            return f"it has no more than {self.multiple} channels (multiple={self.multiple})"
        return f"the ratio takes less than multiple={self.multiple} channels of it"


@dataclass(frozen=True)
class Group:
    """Sets of channels of which any may go, and the constants that make them."""

    own: Sequence[Parameter]
    members: Array
    """The sets, in order."""
    scores: Array

    @property
    def node(self) -> Node:
        """The first layer, for the report."""
        return next(one.node for one in self.own if one.is_weight)

    @property
    def repeats(self) -> int:
        """How many channels of one tensor a set holds."""
        return max(
            int(np.unique(one.sets[np.isin(one.sets, self.members)], return_counts=True)[1].max())
            for one in self.own
        )

    def clear(self, count: int, model: Model) -> int:
        """Set the *count* sets that matter least to zero; return how many were not."""
        gone = self.members[saliency.lowest(self.scores, count)]
        changed: set[int] = set()
        for one in self.own:
            changed |= one.clear(gone, model)
        return len(changed)

    def note(self, count: int) -> dict[str, str | int | float | None]:
        """Return a row for the report."""
        layers = sum(one.is_weight for one in self.own)
        name = self.node.name or self.node.outputs[0].name
        return {"layer": name, "layers": layers, "channels": len(self.members), "zeros": count}


def _lost(members: Array, lost: Mapping[int, float]) -> Array | str:
    """Return what readers lose without each of the sets *members*; most, where none is observed."""
    known = [lost[number] for number in members.tolist() if number in lost]
    if not known:
        return "no layer that reads its channels is observed"
    return np.array([lost.get(number, max(known)) for number in members.tolist()])


def _coupled(found: Sequence[Parameter], sets: Sets) -> Iterator[tuple[Array, list[Parameter]]]:
    """Yield the sets that may go, in groups that layers make together, with all that makes them."""
    home: dict[int, set[int]] = {}
    free = [set(one.sets[~sets.is_kept(one.sets)].tolist()) for one in found]
    for one, own in zip(found, free, strict=True):
        if one.is_weight:
            own = own.union(*(home[item] for item in own if item in home))
            home.update(dict.fromkeys(own, own))
    for members in {id(own): own for own in home.values()}.values():
        yield (
            np.array(sorted(members), np.int64),
            [one for one, own in zip(found, free, strict=True) if own & members],
        )


def _explain(analysis: Analysis, found: Sequence[Parameter], sets: Sets, context: Context) -> None:
    """Say why all channels of some layers stay."""
    followed = {one.node: one for one in found if one.is_weight}
    for node in analysis.graph.nodes:
        if node.operator not in LAYERS or node.operator == "Gather":
            continue
        if node not in followed:
            context.decline(node, "its channels are not followed")
        elif sets.is_kept(followed[node].sets).all():
            context.decline(node, sets.reason(int(followed[node].sets[0])))
