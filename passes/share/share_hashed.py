"""Weights that share values by a hash of where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxslim.base import Context, Effect, Pass, holds_initializers, opset_at_least
from onnxslim.ir import Model
from onnxslim.moments import Moments
from onnxslim.passes.share._hash import Hash
from onnxslim.passes.share._storage import Store
from onnxslim.passes.share._weighting import Weighting, importance, lacking
from onnxslim.sites import Site, find


@dataclass(frozen=True)
class ShareHashed(Pass):
    """Let a hash of its place say which value a weight has, and with which sign.

    The file holds the values alone, *ratio* of them for every weight: onnxruntime computes the hash
    when it loads the model. Which weights share a value is chance, so nearly all that a layer has
    learned is lost; ``tune`` then finds values that do better. Zeros do not stay zeros. *weighting*
    is that of ``share``. Source: Chen et al. 2015, Compressing Neural Networks with the Hashing
    Trick.
    """

    name = "share-hashed"
    effect = Effect.LOSSY
    by_layer = True
    preconditions = (holds_initializers, opset_at_least(11))

    ratio: float = 0.125
    weighting: Weighting = "none"

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is no share between 0 and 1")

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given."""
        return lacking(self.weighting, importance)

    def apply(self, model: Model, context: Context) -> int:
        """Fit values to every weight and let the model compute which one it has."""
        sites, moments, store = find(model, context), Moments(context), Store(model, context)
        if self.weighting == "power":
            moments.observe(model, sites)
        made = self._stored(store, sites, moments)
        context.notes.extend(made[site] for site in sites if site in made)
        return store.finish()

    def _stored(
        self, store: Store, sites: Sequence[Site], moments: Moments
    ) -> dict[Site, dict[str, str | int | float | None]]:
        """Store *sites*, large ones first, and return the rows of the report."""
        ordered = sorted(sites, key=lambda site: -site.tensor.size)
        hashed = Hash(store.pieces, max((site.tensor.size for site in sites), default=0))
        made: dict[Site, dict[str, str | int | float | None]] = {}
        for site in ordered:
            counts = importance(site, self.weighting, moments, store.context)
            size = max(1, round(self.ratio * site.tensor.size))
            values, error = hashed.fit(site.values, counts, size)
            new = store.builder(site)
            offer = store.priced(hashed.restored(new, values, site.tensor.shape), (new,), "hashed")
            if store.put(site, offer):
                made[site] = {
                    "layer": site.label, "weights": site.tensor.size, "values": size,
                    "stored": offer.form, "error": error,
                }  # fmt: skip
        return made
