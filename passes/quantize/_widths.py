"""Trying widths of weights, and measuring what they do to the outputs of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Model
from onnxslim.passes.quantize._allocation import Choice, Layer, spent
from onnxslim.passes.quantize._grid import fit
from onnxslim.passes.quantize._packing import BYTES, PACKINGS
from onnxslim.passes.quantize._parts import Part, joined, split
from onnxslim.passes.quantize._rounding import Rounder
from onnxslim.passes.quantize._storage import Packed, Stored, Writer
from onnxslim.sites import Site, find

_HALF = 16
_NODE = 50
"""About what a node takes that makes halves weights, or joins parts."""
_PROBE = BYTES[4].bits
"""The noise of other widths is reckoned from what this one does."""
_COARSE = 4
"""Up to so many bits noise does not grow as that of the weights does: it is measured."""
_REFINED = 4
_RUNS = 160
"""About so many runs measure all parts; at least two feeds and at most all of them."""
_BY_BITS = {packing.bits: packing for packing in PACKINGS}


@dataclass
class Trial:
    """What can be known about the widths of a model's weights."""

    model: Model
    context: Context
    sites: Sequence[Site]
    rounder: Rounder
    block: int

    def __post_init__(self) -> None:
        """Reckon what every width takes, and measure what one does."""
        self.parts = split(self.sites, self.block)
        scratch = Writer(self.model.copy(), Context())
        self.bytes = [dict(sorted(self._bytes(part, scratch))) for part in self.parts]
        self.powers = list(map(self._powers, self.parts, self.bytes))
        self._stored: dict[tuple[Part, float], Stored] = {}
        self._probe, self._names = _adjustable(self.model, self.context.only)
        self._measured: list[dict[float, float]] = [{} for _ in self.parts]
        self._measure([(number, _PROBE) for number in range(len(self.parts))])

    # What widths take and cost

    def _bytes(self, part: Part, scratch: Writer) -> Iterator[tuple[float, int]]:
        """Yield the widths that make a part smaller, and its own."""
        values = part.values
        native = 8 * values.dtype.itemsize
        size = ir.initializer_bytes(part.site.tensor) if part.is_whole else values.nbytes + _NODE
        yield native, size
        half_size = 2 * values.size + _NODE
        fits = np.abs(values).max() < np.finfo(np.float16).max
        if fits and native > _HALF and half_size < size:
            yield _HALF, half_size
        grid = fit(values, part.site.summed, 256, self.block)
        for packing in PACKINGS:
            codes = np.full(grid.shape, (packing.levels - 1) // 2, np.int8)
            packed = scratch.size(part.site, Packed(codes, grid, packing))
            if packed < size:
                yield packing.bits, packed

    def _powers(self, part: Part, sizes: Iterable[float]) -> dict[float, float]:
        """Return the power of what rounding to the nearest changes, by width."""
        powers = dict[float, float]()
        for width in {*sizes, _PROBE}:
            if width in _BY_BITS:
                grid = fit(part.values, part.site.summed, _BY_BITS[width].levels, self.block)
                powers[width] = grid.power(part.values)
            elif width == _HALF < max(sizes):
                moved = part.values.astype(np.float16) - part.values.astype(np.float64)
                powers[width] = float((moved**2).sum())
            else:
                powers[width] = 0.0
        return powers

    @property
    def layers(self) -> list[Layer]:
        """What the widths of every part take, and add to the noise."""
        return [
            Layer(part.values.size, {width: self._noise(number, width) for width in sizes}, sizes)
            for number, (part, sizes) in enumerate(zip(self.parts, self.bytes, strict=True))
        ]

    def _noise(self, number: int, width: float) -> float:
        """Reckon the noise of a width from that of the nearest one that was measured."""
        measured, powers = self._measured[number], self.powers[number]
        known = min(measured, key=lambda other: abs(other - width))
        if known == width or not powers[known]:
            return measured[known]
        return measured[known] * powers[width] / powers[known]

    # Measuring

    @cached_property
    def base(self) -> float:
        """The noise that the model has already."""
        return next(self.context.noises(self._probe, self._names, [{}]))

    def noise(self, chosen: Choice) -> float:
        """Measure what a choice does to the outputs."""
        pairs = zip(self.parts, chosen, strict=True)
        return next(self.context.noises(self._probe, self._names, [self._values(pairs)]))

    def _measure(self, wanted: Sequence[tuple[int, float]]) -> None:
        """Measure what each of these parts does alone, rounded to a width."""
        feeds = max(2, math.ceil(_RUNS / len(self.parts)))
        alone = (self._values([(self.parts[number], width)]) for number, width in wanted)
        found = self.context.noises(self._probe, self._names, _after_nothing(alone), feeds)
        base = next(found)
        for done, (number, width) in enumerate(wanted):
            self.context.progress("measuring widths", done, len(wanted))
            self._measured[number][width] = max(0.0, next(found) - base)

    def settled(self, choose: Callable[[Sequence[Layer]], Choice]) -> Choice:
        """Choose, measure the narrow widths that were chosen, and choose anew."""
        for _ in range(_REFINED):
            chosen = choose(self.layers)
            unsure = [
                (number, width)
                for number, width in enumerate(chosen)
                if width <= _COARSE and width not in self._measured[number]
            ]
            if not unsure:
                return chosen
            self._measure(unsure)
        return choose(self.layers)

    def even(self) -> Iterator[Choice]:
        """Yield the choices of one width for all that have it, the widest first."""
        for width in sorted(_BY_BITS, reverse=True):
            yield [width if width in sizes else max(sizes) for sizes in self.bytes]

    def expected(self, chosen: Choice) -> float:
        """Return the noise that a choice should add."""
        return sum(layer.noise[w] for layer, w in zip(self.layers, chosen, strict=True))

    # Values and nodes

    def _values(self, chosen: Iterable[tuple[Part, float]]) -> dict[str, Array]:
        """Return weights some parts of which have a width, by their names in the probe."""
        values: dict[str, Array] = {}
        for part, width in chosen:
            name = self._names[part.number]
            if name not in values:
                values[name] = part.site.values.copy()
            part.of(values[name])[:] = self._decoded(part, width)
        return values

    def _decoded(self, part: Part, width: float) -> Array:
        stored = self._form(part, width)
        if isinstance(stored, Packed):
            return stored.decode(part.values.shape)
        return stored.astype(part.values.dtype)

    def _form(self, part: Part, width: float) -> Stored:
        """Return a part at a width."""
        if width not in _BY_BITS:
            return part.values.astype(np.float16) if width == _HALF else part.values
        key = part, width
        if key not in self._stored:
            packing, site = _BY_BITS[width], part.site
            grid = fit(part.values, site.summed, packing.levels, self.block)
            seed = (part.number << 20) + part.start
            codes = self.rounder(site.node, part.values, site.summed, grid, seed)
            self._stored[key] = Packed(codes, grid, packing)
        return self._stored[key]

    def size(self, chosen: Choice) -> int:
        """Return the bytes of the file that a choice makes."""
        copy, lent = self.model.copy(), Context(only=self.context.only)
        self.write(copy, find(copy, lent), lent, chosen)
        return copy.size()

    def write(self, model: Model, sites: Sequence[Site], context: Context, chosen: Choice) -> int:
        """Store the weights of *model*, which has the same *sites*; return how many changed."""
        writer = Writer(model, context)
        forms: dict[int, list[Stored]] = {}
        axes = {part.number: part.axis for part in self.parts}
        narrowed = set()
        for part, width in joined(self.parts, chosen):
            forms.setdefault(part.number, []).append(self._form(part, width))
            if width < 8 * part.values.dtype.itemsize:
                narrowed.add(part.number)
        for number in sorted(narrowed):
            writer.put(sites[number], forms[number], axes[number])
        return writer.finish()

    # The report

    def note(self, chosen: Choice) -> None:
        """Tell the report the widths, and what comes of them and of others."""
        layers = self.layers
        for part, layer, width in zip(self.parts, layers, chosen, strict=True):
            others = {f"sqnr@{_short(bits)}": _sqnr(noise) for bits, noise in layer.noise.items()}
            self._row(
                part.label, layer.count, width, layer.bytes[width], layer.noise[width], others
            )
        count = sum(layer.count for layer in layers)
        mean = spent(layers, chosen, "bits") / count
        self._row("all", count, mean, self.size(chosen), self.noise(chosen), {})

    def _row(
        self, layer: str, weights: int, bits: float, size: int, noise: float,
        others: dict[str, float | None],
    ) -> None:  # fmt: skip
        self.context.notes.append(
            {"layer": layer, "weights": weights, "bits": _short(bits), "bytes": size,
             "sqnr": _sqnr(noise), **others}
        )  # fmt: skip


def _after_nothing(variants: Iterable[dict[str, Array]]) -> Iterator[dict[str, Array]]:
    yield {}
    yield from variants


def _short(bits: float) -> float:
    return round(bits, 3)


def _sqnr(noise: float) -> float | None:
    """Return a noise-to-signal ratio as dB."""
    return round(-10 * math.log10(noise), 2) if 0 < noise < math.inf else None


def _adjustable(model: Model, only: Collection[str] | None) -> tuple[Model, list[str]]:
    """Return a copy whose weights are initializers of the main graph, and their names.

    Of weights that may not all change, it is those called as in *only*.
    """
    copy, names = model.copy(), []
    for site in find(copy, Context(only=only)):
        weight = ir.constant(copy.names.shortest(), site.values)
        ir.replace_uses(site.tensor, weight)
        ir.release([site.tensor], copy.pinned())
        copy.graph.initializers.append(weight)  # even where only a body reads it
        names.append(weight.name)
    for graph in copy.graphs():
        graph.compact()
    return copy, names
