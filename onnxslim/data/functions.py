"""Feeds from a Python function that is named by text."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from onnxslim.data.stream import Stream
from onnxslim.errors import DataError, OnnxslimError

_NAME = r"[^\W\d]\w*"


def is_reference(text: str) -> bool:
    """Say whether *text* looks like ``package.module:function``."""
    return re.fullmatch(rf"{_NAME}(\.{_NAME})*:{_NAME}", text) is not None


def called(reference: str) -> Stream:
    """Return the feeds that the function gives, which is called whenever they are gone through.

    Modules are also looked for in the working directory. Raises DataError.
    """
    found = imported(reference)

    def feeds() -> Iterator[Any]:
        try:
            yield from found() if callable(found) else found
        except OnnxslimError:
            raise
        except Exception as error:
            raise DataError(f"{reference}: {type(error).__name__}: {error}") from error

    return Stream(feeds, reference)


def imported(reference: str) -> Any:
    """Return what ``package.module:name`` stands for. Raises DataError."""
    module, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise DataError(f"{reference}: {type(error).__name__}: {error}") from error
    if not hasattr(found, name):
        raise DataError(f"{reference}: the module has no {name!r}")
    return getattr(found, name)
