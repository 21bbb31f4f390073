"""Zeros for which the weights that stay make up.

Source: Frantar & Alistarh 2023, SparseGPT: weights go column by column, and what each one's loss
moves the outputs by is taken back by those that follow, with the inverse of the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxslim.ir import Array
from onnxslim.moments import inverse_factor, moved

_BLOCK = 128
Choose = Callable[[Array, slice], Array]
"""Returns which weights go, given the scores of some columns as they are by then, and which."""


def without(weights: Array, gram: Array, choose: Choose, step: int = 1) -> Array:
    """Return *weights*, (channels, K), with zeros where *choose* says, the others adjusted.

    *gram* is (K, K); *choose* is asked about multiples of *step* columns. Zeros stay zeros.
    Channels that simply losing the weights would move less are not adjusted.
    """
    upper = inverse_factor(gram)
    power = np.square(np.diag(upper))
    left, mask = weights.copy(), np.zeros(weights.shape, bool)
    width = max(1, _BLOCK // step) * step
    for start in range(0, len(gram), width):
        block = slice(start, min(start + width, len(gram)))
        mask[:, block] = choose(np.square(left[:, block]) / power[block], block)
        mask[:, block] |= weights[:, block] == 0
        errors = np.zeros((len(weights), block.stop - start))
        for column in range(start, block.stop):
            gone = np.where(mask[:, column], left[:, column], 0.0) / upper[column, column]
            left[:, column : block.stop] -= np.outer(gone, upper[column, column : block.stop])
            errors[:, column - start] = gone
        left[:, block.stop :] -= errors @ upper[block, block.stop :]
    left[mask] = 0.0
    plain = np.where(mask, 0.0, weights)
    worse = moved(weights - left, gram) > moved(weights - plain, gram)
    return np.where(worse[:, None], plain, left)
