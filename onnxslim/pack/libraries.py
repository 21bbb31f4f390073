"""The libraries that code and compress, which not everybody has installed."""

from __future__ import annotations

from onnxslim.errors import InputError

try:
    import constriction
    import zstandard
except ImportError as error:
    raise InputError(
        f"{error.name} is not installed; packed models need: pip install 'onnxslim[pack]'"
    ) from error

__all__ = ["constriction", "zstandard"]
