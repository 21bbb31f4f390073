"""Families of structured matrices, one a file; `FAMILIES` finds them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from onnxslim.passes.factorize._families._form import Form


class _Families(Mapping[str, type[Form]]):
    """Families by name, that of their file; one is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Form]:
        if name not in self._files:
            raise KeyError(name)
        return _defined(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        names = [info.name for info in pkgutil.iter_modules(__path__) if info.name[0] != "_"]
        return {name.replace("_", "-"): f"{__name__}.{name}" for name in names}


@functools.cache
def _defined(module: str) -> type[Form]:
    """Return the only class that *module* defines."""
    values = vars(importlib.import_module(module)).values()
    (form,) = (v for v in values if isinstance(v, type) and v.__module__ == module)
    return form


FAMILIES = _Families()
