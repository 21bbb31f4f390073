"""Weights that share few values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxslim.base import Context, Effect, Pass, holds_initializers, opset_at_least
from onnxslim.ir import Array, Model
from onnxslim.moments import Moments
from onnxslim.passes.share._codebook import Codebook, Levels, fit
from onnxslim.passes.share._storage import Store
from onnxslim.sites import Site, find

_MOST = 1 << 16


@dataclass(frozen=True)
class Share(Pass):
    """Let the weights of a layer share few values, and store which one each of them has.

    Layers compute as before, with weights that onnxruntime looks up once, when it loads the model.
    Zeros stay zeros; where they are many, only the others are stored, with gaps or a mask. *rows*
    weights in a row may share a row of values (product quantization). ``levels=uniform`` takes
    multiples of one step, which pack well. ``weighted`` needs calibration data: weights count by
    the power of the inputs they meet. Run the lossless recipe before.
    """

    name = "share"
    effect = Effect.LOSSY
    by_layer = True
    preconditions = (holds_initializers, opset_at_least(10))

    values: int = 16
    per: Literal["layer", "model"] = "layer"
    levels: Levels = "kmeans"
    rows: int = 1
    weighted: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 2 <= self.values <= _MOST:
            raise ValueError(f"values={self.values} is not between 2 and {_MOST}")
        if self.rows < 1:
            raise ValueError(f"rows={self.rows} is no number of weights")
        if self.levels == "uniform" and self.rows > 1:
            raise ValueError("levels=uniform is for single weights: leave out rows")

    def apply(self, model: Model, context: Context) -> int:
        """Fit a codebook for every weight, or one for all, and store what it makes of them."""
        sites = [site for site in find(model, context) if self._fits(site, context)]
        moments = Moments(context)
        if self.weighted:
            moments.observe(model, sites)
        store = Store(model, context)
        for site, book in self._books(sites, moments, context.seed):
            form = store.put(site, book)
            if form is not None:
                context.notes.append(
                    {"layer": site.label, "weights": site.tensor.size, "values": len(book.table),
                     "stored": form, "error": _error(site, book)}
                )  # fmt: skip
        return store.finish()

    def _fits(self, site: Site, context: Context) -> bool:
        if site.tensor.shape[-1] % self.rows == 0 or site.tensor.size % self.rows == 0:
            return True
        context.decline(site.node, f"its weights do not divide into rows of {self.rows}")
        return False

    def _books(
        self, sites: Sequence[Site], moments: Moments, seed: int
    ) -> Iterator[tuple[Site, Codebook]]:
        rows = [site.values.reshape(-1, self.rows) for site in sites]
        weights = [_importance(site, moments, self.rows) for site in sites]
        if self.per == "layer":
            for site, its, counts in zip(sites, rows, weights, strict=True):
                yield site, fit(its, counts, self.values, self.levels, seed)
            return
        for kind in {its.dtype for its in rows}:
            chosen = [place for place, its in enumerate(rows) if its.dtype == kind]
            book = fit(
                np.concatenate([rows[place] for place in chosen]),
                np.concatenate([weights[place] for place in chosen]),
                self.values, self.levels, seed,
            )  # fmt: skip
            ends = np.cumsum([len(rows[place]) for place in chosen])
            for place, codes in zip(chosen, np.split(book.codes, ends[:-1]), strict=True):
                yield sites[place], book._replace(codes=codes)


def _importance(site: Site, moments: Moments, width: int) -> Array:
    """Return for each row of weights the mean power of the inputs that they multiply."""
    shape, gram = site.tensor.shape, moments.grams.get(site.node)
    if gram is None:
        return np.ones(site.tensor.size // width)
    power = np.diagonal(gram, axis1=1, axis2=2)
    groups, inner = power.shape
    channels = site.tensor.size // (groups * inner)
    if channels * groups * inner != site.tensor.size:
        return np.ones(site.tensor.size // width)
    each = np.broadcast_to(power[:, None], (groups, channels, inner))
    ordered = each.reshape(shape[::-1]).T if site.summed == (0,) else each.reshape(shape)
    counts = ordered.reshape(-1, width).mean(1)
    return counts / counts.mean() + 1e-6 if counts.any() else np.ones(len(counts))


def _error(site: Site, book: Codebook) -> float:
    """Return the squared error relative to the weights' squares."""
    exact = site.values.astype(np.float64)
    missed = exact - book.table[book.codes].reshape(exact.shape)
    power = float((exact**2).sum())
    return float((missed**2).sum()) / power if power else 0.0
