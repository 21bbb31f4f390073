"""Trying widths of weights on copies of a model, and measuring what they do to its outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Model
from onnxslim.passes.quantize._allocation import Choice, Layer, spent
from onnxslim.passes.quantize._grid import Grid, fit
from onnxslim.passes.quantize._rounding import Rounder
from onnxslim.passes.quantize._storage import Writer
from onnxslim.passes.quantize._weight_sites import Site, find

_HALF = 16
_CAST = 50
"""About what the node takes that makes halves weights."""


@dataclass(frozen=True, eq=False)
class _Form:
    """A weight at one width."""

    site: Site
    bytes: int
    grid: Grid | None = None
    codes: Array | None = None
    halves: bool = False

    @property
    def values(self) -> Array:
        """The weights as the model then computes them."""
        exact = self.site.values
        if self.grid is not None and self.codes is not None:
            return self.grid.decode(self.codes, exact.shape)
        return exact.astype(np.float16).astype(exact.dtype) if self.halves else exact

    @property
    def power(self) -> float:
        """Power of the errors."""
        return float(((self.values - self.site.values.astype(np.float64)) ** 2).sum())

    def write(self, site: Site, writer: Writer) -> None:
        """Store a weight, of a copy of the model perhaps, in this form."""
        if self.grid is not None and self.codes is not None:
            writer.put(site, self.codes, self.grid)
        elif self.halves:
            writer.put_as(site, self.site.values.astype(np.float16))


@dataclass
class Trial:
    """What can be known about the widths of a model's weights."""

    model: Model
    context: Context
    sites: Sequence[Site]
    rounder: Rounder
    block: int

    def __post_init__(self) -> None:
        """Round every weight to every width that makes it smaller, and measure."""
        scratch = Writer(self.model.copy(), Context())
        self.forms = [
            dict(sorted(self._forms(number, site, scratch)))
            for number, site in enumerate(self.sites)
        ]
        self.layers = [self._layer(number) for number in range(len(self.sites))]

    @cached_property
    def base(self) -> float:
        """The noise that the model has already."""
        return self.context.noise(self.model)

    def _forms(self, number: int, site: Site, scratch: Writer) -> Iterator[tuple[int, _Form]]:
        native, size = 8 * site.values.dtype.itemsize, ir.initializer_bytes(site.tensor)
        yield native, _Form(site, size)
        half_size = 2 * site.tensor.size + _CAST
        fits = np.abs(site.values).max() < np.finfo(np.float16).max
        if fits and native > _HALF and half_size < size:
            yield _HALF, _Form(site, half_size, halves=True)
        for width in (2, 4, 8):
            if scratch.refusal(width, site.tensor.size) is None:
                grid = fit(site.values, site.summed, width, self.block)
                codes = self.rounder(site.node, site.values, site.summed, grid, number)
                packed = scratch.size(site, codes, grid)
                if packed < size:
                    yield width, _Form(site, packed, grid, codes)

    def _layer(self, number: int) -> Layer:
        """Measure the narrow widths; noise that is small grows as that of the weights does."""
        self.context.progress("measuring widths", number, len(self.sites))
        forms, noise = self.forms[number], dict[int, float]()
        known: tuple[float, float] | None = None
        for width, form in forms.items():
            if width == max(forms):
                noise[width] = 0.0
            elif known is not None and known[1] and width > 4:
                noise[width] = known[0] * form.power / known[1]
            else:
                measured = self.context.noise(self._with({number: form}))
                noise[width] = max(0.0, measured - self.base)
                known = noise[width], form.power
        sizes = {width: form.bytes for width, form in forms.items()}
        return Layer(self.sites[number].tensor.size, noise, sizes)

    def _with(self, forms: dict[int, _Form]) -> Model:
        """Return a copy of the model with rounded weights."""
        copy = self.model.copy()
        for number, site in enumerate(find(copy, Context())):
            form = forms.get(number)
            if form is not None and (form.grid is not None or form.halves):
                site.tensor.values = form.values
        return copy

    def _chosen(self, chosen: Choice) -> dict[int, _Form]:
        return {number: self.forms[number][width] for number, width in enumerate(chosen)}

    def noise(self, chosen: Choice) -> float:
        """Measure what a choice does to the outputs."""
        return self.context.noise(self._with(self._chosen(chosen)))

    def expected(self, chosen: Choice) -> float:
        """Return the noise that a choice should add."""
        return sum(layer.noise[w] for layer, w in zip(self.layers, chosen, strict=True))

    def size(self, chosen: Choice) -> int:
        """Return the bytes of the file that a choice makes."""
        copy, lent = self.model.copy(), Context()
        self.write(copy, find(copy, lent), lent, chosen)
        return copy.size()

    def write(self, model: Model, sites: Sequence[Site], context: Context, chosen: Choice) -> int:
        """Store the weights of *model*, which has the same *sites*; return how many changed."""
        writer = Writer(model, context)
        for number, form in self._chosen(chosen).items():
            form.write(sites[number], writer)
        return writer.finish()

    def note(self, chosen: Choice) -> None:
        """Tell the report the widths, and what comes of them."""
        for site, layer, width in zip(self.sites, self.layers, chosen, strict=True):
            self._row(site.label, layer.count, width, layer.bytes[width], layer.noise[width])
        count = sum(layer.count for layer in self.layers)
        mean = round(spent(self.layers, chosen, "bits") / count, 3)
        self._row("all", count, mean, self.size(chosen), self.noise(chosen))

    def _row(self, layer: str, weights: int, bits: float, size: int, noise: float) -> None:
        sqnr = round(-10 * math.log10(noise), 2) if 0 < noise < math.inf else None
        self.context.notes.append(
            {"layer": layer, "weights": weights, "bits": bits, "bytes": size, "sqnr": sqnr}
        )
