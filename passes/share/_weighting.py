"""How much an error in each weight matters."""

from __future__ import annotations

from typing import Literal

import numpy as np

from onnxslim.base import Context
from onnxslim.ir import Array
from onnxslim.moments import Moments
from onnxslim.sites import Site

Weighting = Literal["none", "power", "fisher"]
_LEAST = 1e-6
"""What a weight counts that nothing depends on, relative to the mean."""


def lacking(weighting: Weighting, importance: bool) -> str | None:
    """Say what *weighting* cannot do without and the user did not give."""
    if weighting == "fisher" and not importance:
        return "Fisher's information; give it with --importance FILE.npz, see docs/prune.md"
    return None


def importance(site: Site, weighting: Weighting, moments: Moments, context: Context) -> Array:
    """Return how much each weight of *site* matters, 1 on average, in its shape.

    Where nothing is known of a layer, its weights count alike, and the report says why.
    """
    if weighting == "none":
        return np.ones(site.tensor.shape)
    found = _power(site, moments) if weighting == "power" else _fisher(site, context)
    if isinstance(found, str):
        context.decline(site.node, f"its weights count alike: {found}")
        return np.ones(site.tensor.shape)
    return np.asarray(found / found.mean() + _LEAST) if found.any() else np.ones(found.shape)


def _power(site: Site, moments: Moments) -> Array | str:
    """Return the mean power of the inputs that weights multiply, or why it is not known."""
    gram = moments.grams.get(site.node)
    if gram is None:
        return moments.missing[site.node]
    power = np.diagonal(gram, axis1=1, axis2=2)
    shape, (groups, inner) = site.tensor.shape, power.shape
    each = np.broadcast_to(power[:, None], (groups, site.tensor.size // power.size, inner))
    return each.reshape(shape[::-1]).T if site.summed == (0,) else each.reshape(shape)


def _fisher(site: Site, context: Context) -> Array | str:
    """Return Fisher's information of weights as it was given, or why it is not known."""
    found = (context.importance or {}).get(site.tensor.name)
    if found is None or found.shape != site.tensor.shape:
        return f"nothing says how important {site.tensor.name!r} is"
    return found
