"""Constants and nodes that several weights of a model are restored with, and what they cost."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from onnxslim.ir import Array, Model, Tensor
from onnxslim.rewrite import Builder


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor of the main graph, with the nodes that compute it."""

    value: Tensor
    new: Builder


@dataclass
class Pieces:
    """Every piece once, by what it holds. The first weight that reads one pays for it."""

    model: Model
    made: dict[Hashable, Piece] = field(default_factory=dict)
    """In an order in which later ones read earlier ones only."""
    paid: set[Piece] = field(default_factory=set)
    """Those that weights in the file read."""

    def builder(self) -> Builder:
        """Return what makes nodes of the main graph, with names of few letters."""
        return Builder(self.model.names, self.model.graph, terse=True)

    def constant(self, array: Array) -> Tensor:
        """Return a constant that holds *array*."""
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.made:
            new = self.builder()
            self.made[key] = Piece(new.tensor(array), new)
        return self.made[key].value

    def computed(self, key: Hashable, new: Builder, value: Tensor) -> Tensor:
        """Return *value*, which the nodes of *new* compute, from now on under *key*."""
        self.made[key] = Piece(value, new)
        return value

    def find(self, key: Hashable) -> Tensor | None:
        """Return what was computed under *key*."""
        piece = self.made.get(key)
        return None if piece is None else piece.value

    def unpaid_bytes(self, read: Iterable[Builder]) -> int:
        """Return what the pieces that *read* reads add to the file."""
        return sum(piece.new.size() for piece in self._used(read) - self.paid)

    def pay(self, read: Iterable[Builder]) -> None:
        """Count the pieces that *read* reads as being in the file."""
        self.paid |= self._used(read)

    def finish(self) -> None:
        """Put what weights read into the main graph, and let go of the rest."""
        kept = [piece for piece in self.made.values() if piece in self.paid]
        nodes = [node for piece in kept for node in piece.new.nodes]
        self.model.graph.nodes = [*nodes, *self.model.graph.nodes]
        for piece in reversed(self.made.values()):
            if piece not in self.paid:
                piece.new.discard()

    def _used(self, read: Iterable[Builder]) -> set[Piece]:
        owners = {piece.value: piece for piece in self.made.values()}
        found: set[Piece] = set()
        pending = list(read)
        while pending:
            inputs = _inputs(pending.pop())
            more = {owners[tensor] for tensor in inputs if tensor in owners} - found
            found |= more
            pending.extend(piece.new for piece in more)
        return found


def _inputs(new: Builder) -> Iterator[Tensor]:
    for node in new.nodes:
        yield from node.inputs


def ints(*numbers: int) -> Array:
    """Return numbers as shapes and axes want them."""
    return np.array(numbers, np.int64)
