"""Structured matrices in place of weights. Source: Wu 2018, ProdSumNet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnxslim.base import Context
from onnxslim.errors import Declined
from onnxslim.ir import Model
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._choose import Choice
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._families._form import Form
from onnxslim.passes.factorize._families._product import Product
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer
from onnxslim.passes.factorize._structured_search import best, forms_within, rank


@dataclass(frozen=True)
class FactorizeProdsum(FactorizePass):
    """Replace weights by structured matrices, Toeplitz or banded say, or products of such.

    ``family=auto`` compares all of them; ``family=circulant*banded`` multiplies two. ``ratio`` is
    the share of the weights that may be stored. What is stored is expanded at load.
    """

    name = "factorize-prodsum"

    family: str = "auto"
    ratio: float = 0.25

    def __post_init__(self) -> None:
        """Refuse families that there are not."""
        unknown = [name for name in self._names if name not in FAMILIES]
        if unknown:
            raise ValueError(f"no family is called {unknown[0]!r}: {', '.join(FAMILIES)}")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is not between 0 and 1")

    @property
    def _names(self) -> list[str]:
        return list(FAMILIES) if self.family == "auto" else self.family.split("*")

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Yield the best forms, fitted in the metric of the data."""
        forms = list(self._forms(layer))
        if not forms:
            raise Declined("no structured matrix has so few parameters")
        yield from best(layer, metric, forms)

    def _forms(self, layer: Layer) -> Iterator[Form]:
        size = *layer.shape, round(self.ratio * layer.parameters)
        families = [FAMILIES[name] for name in self._names]
        if self.family != "auto" and len(families) > 1:
            yield from Product.of(families, *size)
        else:
            yield from forms_within(families, *size)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Choose what moves the outputs least; of exact ones, the smallest."""
        return [
            min(offer.candidates, key=lambda c: (*rank(c.error, c.parameters), c.run is None))
            for offer in offers
        ]
