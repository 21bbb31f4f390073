"""A level for every layer, by what its noise does to the outputs and what it saves.

Noise-to-signal ratios at the outputs add over layers (Lin et al. 2016, Fixed Point Quantization of
Deep Convolutional Networks); which levels take the fewest bytes for a sum of noises is found by
Lagrange's multiplier (Everett 1963).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim import ir, runtime, shapes
from onnxslim.base import Context
from onnxslim.data import Calibration
from onnxslim.errors import OnnxslimError
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.pipeline import Pipeline
from onnxslim.registry import at, parse
from onnxslim.runtime import lent
from onnxslim.search.methods import BEFORE, by_layer, whole
from onnxslim.sites import Site, find
from onnxslim.validate import Reference, adjustable

_FEEDS = 8
_NOISES = np.geomspace(1e-5, 1.0, 26)
"""Sums of noises that are tried."""


@dataclass(frozen=True)
class Level:
    """What one way to store a layer's weights takes, and adds to the noise."""

    passes: tuple[str, ...]
    """None leave the weights as they are."""
    bytes: int
    noise: float


@dataclass(frozen=True)
class Mixture:
    """The levels of every layer."""

    layers: Mapping[str, Sequence[Level]]
    """By the name of the weight."""

    def specs(self) -> list[str]:
        """Return pipelines, from little noise to much, each of another choice."""
        found = (self._spec(float(noise)) for noise in _NOISES)
        return list(dict.fromkeys(spec for spec in found if spec))

    def table(self) -> list[dict[str, str | int | float | None]]:
        """Return a row for each layer and level, for the report."""
        return [
            {"layer": name, "level": ",".join(level.passes) or "as it is", "bytes": level.bytes,
             "noise": level.noise}
            for name, levels in self.layers.items() for level in levels
        ]  # fmt: skip

    def _spec(self, noise: float) -> str:
        """Return the pipeline that takes the fewest bytes for so much *noise*."""
        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            if sum(level.noise for level in self._chosen(10**middle).values()) > noise:
                low = middle
            else:
                high = middle
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, level in self._chosen(10**high).items():
            if level.passes:
                groups.setdefault(level.passes, []).append(name)
        steps = (step + at(names) for passes, names in sorted(groups.items()) for step in passes)
        return whole(",".join(steps))

    def _chosen(self, multiplier: float) -> dict[str, Level]:
        """Return the levels of the least bytes plus *multiplier* times noise."""
        return {
            name: min(levels, key=lambda level: level.bytes + multiplier * level.noise)
            for name, levels in self.layers.items()
        }


def measure(model: Model, data: Calibration, seed: int) -> Mixture:
    """Try every level on every layer of *model*, alone, on a few samples."""
    base, _ = Pipeline(parse(BEFORE), check="off")(model)
    sites = {site.tensor.name: site for site in find(base, Context(infer=shapes.infer))}
    variants = {passes: _weights(base, sites, passes, data, seed) for passes in by_layer()}
    levels = {
        name: [Level((), ir.initializer_bytes(site.tensor), 0.0)] for name, site in sites.items()
    }
    tried = [(passes, name) for passes, made in variants.items() for name in made]
    with lent(base) as source, lent(adjustable(base, set(sites))) as candidate:
        reference = Reference(source, base, data, seed)
        values = ({name: variants[passes][name][0]} for passes, name in tried)
        for (passes, name), noise in zip(
            tried, reference.noises(candidate, values, _FEEDS), strict=True
        ):
            levels[name].append(Level(passes, variants[passes][name][1], noise))
    return Mixture({name: found for name, found in levels.items() if len(found) > 1})


def _weights(
    base: Model, sites: Mapping[str, Site], passes: Sequence[str], data: Calibration, seed: int
) -> dict[str, tuple[Array, int]]:
    """Return the weights that *passes* make of each layer, and the bytes they are stored in."""
    try:
        made, _ = Pipeline(parse(",".join(passes)), check="off", seed=seed, rounds=1)(base, data)
    except OnnxslimError:
        return {}
    readers = {node.outputs[0].name: node for node in made.nodes()}
    found = {}
    for name, site in sites.items():
        reader = readers.get(site.node.outputs[0].name)
        stored = None if reader is None else reader.input(site.slot)
        if stored is None or isinstance(stored, Constant):
            continue
        values, size = _decoded(made, stored)
        if values is not None and values.shape == site.tensor.shape:
            found[name] = (ir.spooled(values.astype(site.tensor.dtype)), size)
    return found


def _decoded(model: Model, tensor: Tensor) -> tuple[Array | None, int]:
    """Return what *tensor* is computed to from constants, and the bytes of what it takes alone."""
    cone = set(_cone(tensor))
    given = {item for node in cone for item in node.inputs if not ir.producer(item)}
    if not all(isinstance(item, Constant) or item.is_empty() for item in given):
        return None, 0
    ordered = [node for node in model.graph.nodes if node in cone]
    alone: set[Node] = set()
    for node in reversed(ordered):
        readers = {reader for output in node.outputs for reader in output.outputs}
        if node is ir.producer(tensor) or readers <= alone:
            alone.add(node)
    constants = (item for item in given if isinstance(item, Constant))
    size = sum(map(ir.node_bytes, alone))
    size += sum(ir.initializer_bytes(c) for c in constants if set(c.outputs) <= alone)
    return runtime.evaluate(model, ordered, [tensor]).get(tensor), size


def _cone(tensor: Tensor) -> Iterator[Node]:
    pending, seen = [tensor], set[Node]()
    while pending:
        source = ir.producer(pending.pop(0))
        if source is not None and source not in seen:
            seen.add(source)
            yield source
            pending.extend(source.inputs)


def is_worth_it(mixture: Mixture) -> bool:
    """Say whether there is anything to mix."""
    return len(mixture.layers) > 1 and math.isfinite(sum(
        level.noise for levels in mixture.layers.values() for level in levels[:2]
    ))  # fmt: skip
