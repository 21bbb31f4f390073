"""The weights of layers as rows, with what says how much each of them matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxslim import saliency
from onnxslim.base import Context
from onnxslim.ir import Array
from onnxslim.moments import Moments, Rows, moved
from onnxslim.saliency import Criterion
from onnxslim.sites import Site


@dataclass(frozen=True)
class Layer:
    """Weights that may become zeros."""

    site: Site
    rows: Rows
    weights: Array
    """(groups, channels, K), in float64."""
    scores: Array
    """What is lost with each weight; 0 for zeros."""
    gram: Array | None
    """(groups, K, K), where the inputs were observed."""

    def replace(self, weights: Array) -> None:
        """Store other weights."""
        tensor = self.site.tensor
        tensor.values = np.ascontiguousarray(self.rows.back(weights)).astype(tensor.dtype)

    def note(self, weights: Array) -> dict[str, str | int | float | None]:
        """Return a row for the report on what *weights* cost; the error is that of the outputs."""
        error = None
        if self.gram is not None:
            lost, had = (
                sum(moved(one, gram).sum() for one, gram in zip(rows, self.gram, strict=True))
                for rows in (self.weights - weights, self.weights)
            )
            error = float(lost / had) if had else 0.0
        zeros = int((weights == 0).sum())
        return {
            "layer": self.site.label, "weights": weights.size, "zeros": zeros,
            "sparsity": zeros / weights.size, "error": error,
        }  # fmt: skip


def measured(
    site: Site, criterion: Criterion, small: float, moments: Moments, context: Context
) -> Layer | None:
    """Return a layer with the scores of its weights; None where they cannot be told.

    *small* is the share of weights that magnitude alone chooses before Fisher's information does.
    """
    gram = moments.grams.get(site.node)
    rows = Rows(site.tensor.shape, site.summed, 1 if gram is None else len(gram))
    weights = rows.of(site.values.astype(np.float64))
    if criterion == "magnitude":
        return Layer(site, rows, weights, saliency.magnitude(weights), gram)
    if criterion == "obs":
        if gram is None:
            context.decline(site.node, moments.missing[site.node])
            return None
        return Layer(site, rows, weights, saliency.surgeon(weights, gram), gram)
    importance = _importance(context.importance or {}, site)
    if importance is None:
        context.decline(site.node, f"nothing says how important {site.tensor.name!r} is")
        return None
    found = saliency.fisher(weights, rows.of(importance))
    if criterion == "magnitude-fisher":
        found = saliency.small_first(weights, rows.of(importance), small)
    return Layer(site, rows, weights, found, gram)


def _importance(given: Mapping[str, Array], site: Site) -> Array | None:
    found = given.get(site.tensor.name)
    return found if found is not None and found.shape == site.tensor.shape else None
