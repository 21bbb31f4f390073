"""What a model may cost: how much worse, how many bytes, how much time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnxslim.errors import SpecError
from onnxslim.regress.checks import size_limit


@dataclass(frozen=True)
class Budget:
    """Limits that all hold; None is no limit.

    The smallest model inside is wanted, the fastest where *latency* is limited, and the best where
    *max_drop* is not.
    """

    max_drop: float | None = None
    """How much worse the metric may be, in its own unit."""
    size: int | None = None
    """Bytes of the file."""
    latency: float | None = None
    """Time of a run, as a part of the original's."""
    sure: bool = False
    """Whether *max_drop* limits what 95 % of resampled judges stay below, not the drop they see."""

    def __post_init__(self) -> None:
        """Refuse a budget without any limit. Raises SpecError."""
        if self.max_drop is self.size is self.latency is None:
            raise SpecError("a budget needs a limit: of the drop, the size or the latency")
        if self.sure and self.max_drop is None:
            raise SpecError("only a limit of the drop can be sure")

    def is_good(self, drop: float, bound: float) -> bool:
        """Say whether a drop, and what 95 % of judges stay below, are inside."""
        return self.max_drop is None or (bound if self.sure else drop) <= self.max_drop


def size(text: str | float, original: int) -> int:
    """Read a size: ``4x`` smaller than *original* bytes, ``500KB``, ``1.5MiB``, ``30%`` of them.

    Raises SpecError.
    """
    smaller = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*x\s*", str(text))
    if smaller is None:
        return size_limit(text if isinstance(text, str) else int(text), original)
    if float(smaller[1]) < 1:
        raise SpecError(f"{text!r} is no size; write 4x for a quarter, 500KB or 1.5MiB")
    return int(original / float(smaller[1]))


def latency(text: str | float, original: float) -> float:
    """Read a latency, as a part of the *original*'s seconds: ``0.5x``, ``3ms``, ``2s``, or a part.

    Raises SpecError.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|ms|us|s|)\s*", str(text))
    if found is None or float(found[1]) <= 0:
        raise SpecError(f"{text!r} is no latency; write 0.5x or 3ms")
    seconds = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
    number = float(found[1])
    return number * seconds[found[2]] / original if found[2] in seconds else number
