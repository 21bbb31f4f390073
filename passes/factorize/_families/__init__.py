"""Families of structured matrices, one a file; `FAMILIES` finds them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from onnxslim.passes.factorize._families._form import Form


def _found() -> Iterator[type[Form]]:
    for info in pkgutil.iter_modules(__path__, f"{__name__}."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and value.__module__ == info.name:
                yield value


FAMILIES = {form.family: form for form in _found()}
