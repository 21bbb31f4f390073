"""Matrices of circulant blocks. Source: Ding et al. 2017, CirCNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Indexed
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder


@dataclass(frozen=True)
class BlockCirculant(Indexed):
    """Block (p, q) of W is the circulant of a[p, q]."""

    family = "block-circulant"

    block: int

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[BlockCirculant]:
        """Yield those of several blocks, which divide both dimensions."""
        for block in range(2, min(rows, columns) + (rows != columns)):
            if not rows % block and not columns % block and rows * columns <= most * block:
                yield cls(rows, columns, block)

    @property
    def parameters(self) -> int:
        """One row of every block."""
        return self.rows * self.columns // self.block

    @property
    def detail(self) -> str:
        """The size of the blocks."""
        return f"blocks of {self.block}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks in a column, in a row, and the elements that one has."""
        return self.rows // self.block, self.columns // self.block, self.block

    def place(self) -> Array:
        """Count the rows of blocks one after the other."""
        i, j = np.arange(self.rows)[:, None], np.arange(self.columns)
        blocks = i // self.block * (self.columns // self.block) + j // self.block
        return blocks * self.block + (j - i) % self.block

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Look up all blocks at once and put them in their places."""
        columns, rows = count(new, 0, self.block), upright(new, count(new, 0, self.block))
        turned = new.Mod(new.Sub(columns, rows), np.array(self.block, np.int32))
        blocks = new.Gather(parts[0], turned, axis=2)
        ordered = new.Transpose(blocks, perm=[0, 2, 1, 3])
        return new.Reshape(ordered, np.array([self.rows, self.columns]))
