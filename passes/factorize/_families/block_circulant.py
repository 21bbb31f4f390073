"""Matrices of circulant blocks. Source: Ding et al. 2017, CirCNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize import _speed
from onnxslim.passes.factorize._families._form import Indexed, Values
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

    # Running: blocks are diagonal in the frequency domain

    @property
    def _frequencies(self) -> int:
        return self.block // 2 + 1

    def running(self) -> Values:
        """Return a Fourier transform, what makes spectra real matrices, and their shares."""
        turns = (
            np.outer(np.arange(self.block), np.arange(self._frequencies)) * 2 * np.pi / self.block
        )
        transform = np.stack([np.cos(turns), -np.sin(turns)], axis=-1)
        spread = np.array([[1.0, 0, 0, 1], [0, 1, -1, 0]])
        share = np.full((self._frequencies, 1), 2 / self.block)
        share[:: self.block // 2 if self.block % 2 == 0 else self.block] /= 2
        return transform.reshape(self.block, -1), spread, share

    def time(self, rows: int) -> float:
        """Return the estimated microseconds of two transforms and a product per frequency."""
        return _speed.block_circulant(rows, self.rows, self.columns, self.block)

    def run(self, new: Builder, x: Tensor, kept: list[int], parts: Sequence[Tensor]) -> Variable:
        """Transform, multiply every frequency by a matrix of its own, and transform back."""
        (p, q, b), f, k = self.shape, self._frequencies, len(kept)
        transform = parts[1]
        blocks = new.MatMul(new.Reshape(x, np.array([*kept, p, b])), transform)
        apart = new.Reshape(blocks, np.array([*kept, p, f, 2]))
        first = new.Transpose(apart, perm=[k + 1, *range(k), k, k + 2])
        spectra = new.Reshape(first, np.array([0, *kept, 2 * p]))
        matrices = new.Reshape(
            self._matrices(new, parts), np.array([f, *[1] * (k - 1), 2 * p, 2 * q])
        )
        made = new.Reshape(new.MatMul(spectra, matrices), np.array([0, *kept, q, 2]))
        last = new.Transpose(made, perm=[*range(1, k + 1), k + 1, 0, k + 2])
        joined = new.Reshape(last, np.array([*kept, q, 2 * f]))
        back = new.MatMul(joined, new.Transpose(transform, perm=[1, 0]))
        return new.Reshape(back, np.array([*kept, self.columns]))

    def _matrices(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Return a real matrix for each frequency, computed at load."""
        values, transform, spread, share = parts
        (p, q, _), f = self.shape, self._frequencies
        spectra = new.Reshape(new.MatMul(values, transform), np.array([p, q, f, 2]))
        real = new.Mul(new.MatMul(spectra, spread), share)
        return new.Transpose(new.Reshape(real, np.array([p, q, f, 2, 2])), perm=[2, 0, 3, 1, 4])
