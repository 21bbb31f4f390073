"""What a source of data gives before anything is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from onnxslim.data.specs import Array


@dataclass(frozen=True)
class Stream:
    """Feeds that can be gone through again and again."""

    feeds: Callable[[], Iterable[Any]]
    """Starts anew at each call."""
    where: str = "calibration data"
    """Where they come from, for messages."""
    count: int | None = None
    labels: Array | None = None
    recorded: bool = False
    """Whether somebody wrote these feeds down for this model, and means a NaN among them."""
    synthetic: bool = False
