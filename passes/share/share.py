"""Weights that share few values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from onnxslim.base import Context, Effect, Pass, holds_initializers, opset_at_least
from onnxslim.ir import Array, Model
from onnxslim.moments import Moments
from onnxslim.passes.share._codebook import Codebook, Levels, fit
from onnxslim.passes.share._groups import Fit, channel_axes, offered
from onnxslim.passes.share._storage import Aim, Offer, Part, Store
from onnxslim.passes.share._weighting import Weighting, importance, lacking
from onnxslim.sites import Site, find

_MOST = 1 << 16


@dataclass(frozen=True)
class Share(Pass):
    """Let the weights of a layer share few values, and store which one each of them has.

    Layers compute as before, with weights that onnxruntime looks up once, when it loads the model.
    Zeros stay zeros; where they are many, only the others are stored, with gaps or a mask.
    ``per=channel`` gives channels of like power a codebook of their own where that is worth its
    bytes. *rows* weights in a row may share a row of values (product quantization).
    ``levels=uniform`` takes multiples of one step, which pack well. ``weighting`` says which errors
    matter: those of weights that meet strong inputs (power, needs calibration data) or of those
    that the loss depends on (fisher, needs --importance). ``aim=packed`` makes the packed file
    small, not the model itself. Run the lossless recipe before.
    """

    name = "share"
    effect = Effect.LOSSY
    by_layer = True
    preconditions = (holds_initializers, opset_at_least(10))

    values: int = 16
    per: Literal["layer", "channel", "model"] = "layer"
    levels: Levels = "kmeans"
    rows: int = 1
    weighting: Weighting = "none"
    aim: Aim = "file"

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 2 <= self.values <= _MOST:
            raise ValueError(f"values={self.values} is not between 2 and {_MOST}")
        if self.rows < 1:
            raise ValueError(f"rows={self.rows} is no number of weights")
        if self.levels == "uniform" and self.rows > 1:
            raise ValueError("levels=uniform is for single weights: leave out rows")
        if self.per == "channel" and self.rows > 1:
            raise ValueError("rows may reach across channels: leave out rows or per=channel")

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given."""
        return lacking(self.weighting, importance)

    def apply(self, model: Model, context: Context) -> int:
        """Fit codebooks for every weight, or one for all, and store what they make of it."""
        sites = [site for site in find(model, context) if self._fits(site, context)]
        moments = Moments(context)
        if self.weighting == "power":
            moments.observe(model, sites)
        store = Store(model, context, self.aim)
        made = {
            site: _note(site, parts, offer)
            for site, parts, offer in self._offers(store, sites, moments)
            if store.put(site, offer)
        }
        context.notes.extend(made[site] for site in sites if site in made)
        return store.finish()

    def _fits(self, site: Site, context: Context) -> bool:
        if site.tensor.shape[-1] % self.rows == 0 or site.tensor.size % self.rows == 0:
            return True
        context.decline(site.node, f"its weights do not divide into rows of {self.rows}")
        return False

    def _offers(
        self, store: Store, sites: Sequence[Site], moments: Moments
    ) -> Iterator[tuple[Site, list[Part], Offer]]:
        """Yield what would restore weights, large ones first: they pay for what others share."""
        counts = partial(
            importance, weighting=self.weighting, moments=moments, context=store.context
        )
        seed, ordered = store.context.seed, sorted(sites, key=lambda site: -site.tensor.size)
        fit_rows = partial(fit, size=self.values, levels=self.levels, seed=seed)
        if self.per == "model":
            for site, book in _shared(ordered, counts, fit_rows, self.rows):
                parts = [Part(book, site.tensor.shape)]
                yield site, parts, store.offer(site, parts)
            return
        for site in ordered:
            if self.per == "channel" and len(channel_axes(site)) == 1:
                offer, parts = offered(store, site, counts(site), fit_rows)
            else:
                weights = _rows(counts(site), self.rows).mean(1)
                parts = [Part(fit_rows(_rows(site.values, self.rows), weights), site.tensor.shape)]
                offer = store.offer(site, parts)
            yield site, parts, offer


def _rows(values: Array, width: int) -> Array:
    return values.reshape(-1, width)


def _shared(
    sites: Sequence[Site], counts: Callable[[Site], Array], fit_rows: Fit, width: int
) -> Iterator[tuple[Site, Codebook]]:
    """Yield *sites* with codebooks that all those of a type share."""
    for kind in dict.fromkeys(site.values.dtype for site in sites):
        chosen = [site for site in sites if site.values.dtype == kind]
        rows = [_rows(site.values, width) for site in chosen]
        weights = [_rows(counts(site), width).mean(1) for site in chosen]
        book = fit_rows(np.concatenate(rows), np.concatenate(weights))
        ends = np.cumsum([len(its) for its in rows])
        for site, codes in zip(chosen, np.split(book.codes, ends[:-1]), strict=True):
            yield site, book._replace(codes=codes)


def _note(site: Site, parts: list[Part], offer: Offer) -> dict[str, str | int | float | None]:
    """Return the row of the report."""
    axis = channel_axes(site)[0] if len(parts) > 1 else 0
    missed = sum(float(np.square(part.missed(site.values, axis)).sum()) for part in parts)
    power = float(np.square(site.values.astype(np.float64)).sum())
    return {
        "layer": site.label, "weights": site.tensor.size,
        "values": max(len(part.book.table) for part in parts), "codebooks": len(parts),
        "stored": offer.form, "error": missed / power if power else 0.0,
    }  # fmt: skip
