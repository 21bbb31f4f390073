"""How images become arrays: the options, and how they are written."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from onnxslim.errors import DataError

CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an array, in this order; None is what the model's input suggests."""

    color: str | None = None
    """``rgb``, ``bgr`` or ``gray``; gray where the input has one channel, else rgb."""
    resize: tuple[int, ...] | None = None
    """Height and width, or the length of the shorter side; None covers what is cropped."""
    crop: tuple[int, ...] | None = None
    """Height and width of the middle that is kept; None is the size of the input."""
    scale: float | None = None
    """What bytes are multiplied by: 1/255."""
    mean: tuple[float, ...] = (0.0,)
    """Is subtracted then; by channel, in the order of `color`, or for all."""
    std: tuple[float, ...] = (1.0,)
    """Divides then."""
    layout: str | None = None
    """``nchw`` or ``nhwc``."""

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Preprocessing:
        """Read values or texts such as ``"0.485,0.456,0.406"``. Raises DataError."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise DataError(f"images have no option {name!r}; there are: {', '.join(known)}")
        return cls(**{name: _READERS[name](name, value) for name, value in options.items()})


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise DataError(f"{name} is {value!r}; choose from {', '.join(choices)}")
        return str(value)

    return read


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [text.strip() for text in value.split(",")]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _size(name: str, value: Any) -> tuple[int, ...]:
    try:
        size = tuple(int(i) if isinstance(i, str) else operator.index(i) for i in _items(value))
    except (ValueError, TypeError):
        size = ()
    if len(size) not in (1, 2) or min(size) < 1:
        raise DataError(f"{name} is {value!r}; write a number of pixels, or HEIGHT,WIDTH")
    return size


def _floats(name: str, value: Any) -> tuple[float, ...]:
    try:
        floats = tuple(float(Fraction(i) if isinstance(i, str) else i) for i in _items(value))
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        floats = ()
    if len(floats) not in (1, 3) or not all(map(math.isfinite, floats)):
        raise DataError(f"{name} is {value!r}; write one number, or one for each channel")
    return floats


def _nonzero(name: str, value: Any) -> tuple[float, ...]:
    floats = _floats(name, value)
    if 0.0 in floats:
        raise DataError(f"{name} is {value!r}; it must not be 0")
    return floats


def _factor(name: str, value: Any) -> float:
    floats = _nonzero(name, value)
    if len(floats) > 1:
        raise DataError(f"{name} is {value!r}; write one number")
    return floats[0]


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "color": _choice(*CHANNELS),
    "resize": _size,
    "crop": _size,
    "scale": _factor,
    "mean": _floats,
    "std": _nonzero,
    "layout": _choice(*LAYOUTS),
}
