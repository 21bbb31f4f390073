"""Fisher's information of weights, as users' own training or ``onnxslim tune`` gives it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxslim.errors import DataError
from onnxslim.ir import Array, Constant, Model

Importance = str | os.PathLike[str] | Mapping[str, Array]
"""A file of NumPy's (.npz), or arrays, by the names of initializers."""


def read_importance(source: Importance, model: Model) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays in float64, and what the user should know.

    Each has the shape of the initializer of its name; Adam's second moments are such arrays.
    Raises DataError for what cannot be read, for other shapes, for NaN and for negative numbers,
    and where no name is that of an initializer.
    """
    given = source if isinstance(source, Mapping) else _loaded(Path(source))
    weights = {t.name: t for t in model.graph.initializers if isinstance(t, Constant)}
    found = {name: _checked(name, given[name], weights[name]) for name in given if name in weights}
    unknown = [name for name in given if name not in weights]
    if not found:
        some = ", ".join(unknown[:3]) or "nothing"
        raise DataError(f"importance is given of {some}, but no initializer has such a name")
    notes = [f"importance: no initializer is called {', '.join(unknown)}"] if unknown else []
    return found, notes


def _loaded(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, Mapping):
                raise DataError(f"{path} holds one array; give an .npz file with one a weight")
            return {name: file[name] for name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}") from error


def _checked(name: str, array: Array, weight: Constant) -> Array:
    made = np.asarray(array)
    if made.dtype.kind not in "fiu":
        raise DataError(f"the importance of {name!r} is no array of numbers")
    if made.shape != weight.shape:
        raise DataError(
            f"the importance of {name!r} is of shape {made.shape}, the weight of {weight.shape}"
        )
    made = made.astype(np.float64)
    if not np.isfinite(made).all() or (made < 0).any():
        raise DataError(f"the importance of {name!r} holds NaN, infinite or negative numbers")
    return made
