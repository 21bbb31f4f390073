"""Images that are moved and mirrored at random, so that few samples show more.

The original says what it makes of each of them anew. Source: Beyer et al. 2022, Knowledge
Distillation: A Good Teacher Is Patient and Consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxslim.data import Feed
from onnxslim.errors import CannotTune
from onnxslim.ir import Array

Vary = Callable[[int, Feed], Feed]
"""From the place of a sample and the sample, what is learned from."""
_MOST_CHANNELS = 4
"""Of an image whose channels stand last."""


class Variation:
    """Moves images by up to *shift* pixels and, where *mirror*, swaps left and right.

    All images of a sample are moved alike; their edges are repeated where nothing is known. Raises
    CannotTune where *example* has no images: arrays of rank 3 (batch, height, width) or 4.
    """

    def __init__(self, example: Feed, count: int, shift: int, mirror: bool, seed: int) -> None:
        """Vary *count* samples that are like *example*."""
        shapes = {name: np.shape(value) for name, value in example.items()}
        found = {name: spatial(shape) for name, shape in shapes.items()}
        self.axes = {name: axes for name, axes in found.items() if axes is not None}
        if not self.axes:
            raise CannotTune("no input is an image, which could be moved or mirrored")
        self.count, self.shift, self.mirror, self.seed = count, shift, mirror, seed

    def epoch(self, number: int) -> Vary:
        """Return how samples vary in an epoch, the same at each call."""
        dice = np.random.default_rng((self.seed, number, 1))
        steps = dice.integers(-self.shift, self.shift + 1, (self.count, 2))
        mirrored = dice.random(self.count) < (0.5 if self.mirror else 0.0)

        def vary(place: int, feed: Feed) -> Feed:
            changed = {
                name: moved(np.asarray(feed[name]), axes, steps[place], bool(mirrored[place]))
                for name, axes in self.axes.items()
            }
            return {**feed, **changed}

        return vary


def spatial(shape: Sequence[int]) -> tuple[int, int] | None:
    """Return the axes of height and width; None where *shape* is not that of images.

    Channels stand first, unless there are at most four last and more first.
    """
    if len(shape) == 3:
        return 1, 2
    if len(shape) != 4:
        return None
    return (1, 2) if shape[3] <= _MOST_CHANNELS < shape[1] else (2, 3)


def moved(image: Array, axes: tuple[int, int], steps: Sequence[int], mirrored: bool) -> Array:
    """Return *image* moved by *steps* pixels down and to the right, mirrored before that."""
    for axis, step in zip(axes, steps, strict=True):
        size = image.shape[axis]
        places = np.clip(np.arange(size) - step, 0, size - 1)
        if mirrored and axis == axes[1]:
            places = size - 1 - places
        image = image.take(places, axis)
    return image
