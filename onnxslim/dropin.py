"""What callers of the OnnxSlim package on PyPI write, put into this package's terms."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from onnxslim.base import Pass
from onnxslim.data import Calibration, Dim, Feed, InputSpec, generate
from onnxslim.errors import DataError, InputError, SpecError, did_you_mean
from onnxslim.registry import LIST_THEM, all_passes

_FUSE = "onnxslim.passes.fuse."
_FEEDS = 9
"""How many feeds are made up where only their shapes are given: each style, a few times."""

_TYPES = ("fp16", "fp32", "int32", "bool")
SHAPES_STAY = "no_shape_infer changes nothing: passes infer shapes as they need, none is written"
COUNTERPARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "constant_folding": ("fold-constants",),
        "dead_node_elimination": (
            *("drop-dead", "drop-identity", "drop-noop-movement", "drop-noop-arithmetic"),
        ),
        "subexpression_elimination": ("merge-duplicate-nodes",),
        "weight_tying": ("merge-duplicate-initializers",),
        "FusionConvAdd": ("fuse-affine",),
        "FusionConvBN": ("fuse-conv-bn",),
        "FusionConvMul": ("fuse-affine",),
        "FusionConvTransposeAdd": ("fuse-affine",),
        "FusionConvTransposeBN": ("fuse-conv-transpose-bn",),
        "FusionConvTransposeMul": ("fuse-affine",),
        "FusionGelu": ("compose-gelu",),
        "FusionGemm": ("fuse-matmul-add",),
        "FusionGemmAdd": ("fuse-affine",),
        "FusionGemmMul": ("fuse-affine", "fold-gemm-factors"),
        "FusionPadConv": ("fuse-pad",),
        "FusionReduce": ("merge-reduces",),
        "EliminationConcat": ("merge-concats",),
        "EliminationReshape": ("merge-reshapes",),
        "EliminationSlice": ("merge-slices",),
        "EliminationTranspose": ("merge-transposes", "cancel-transposes"),
        "EliminationTransposeViewTranspose": ("cancel-transposes",),
        "EliminationUnsqueeze": ("merge-reshapes",),
    }
)
"""The passes that do the work of an optimization or a fusion pattern of OnnxSlim."""
_GROUP = "graph_fusion"
"""The name that OnnxSlim gives to all its patterns; here, every pass of the group ``fuse``."""
_ABSENT = ("EliminationReshapeAs", "EliminationTransposeAsReshape", "FusionConcatReshape")
"""Patterns that no one pass here answers to."""


def without(steps: Sequence[Pass], names: Iterable[str]) -> tuple[Pass, ...]:
    """Return *steps* but those called *names*, in our words or in OnnxSlim's.

    Warns of names of OnnxSlim's without a counterpart here. Raises SpecError for unknown names.
    """
    dropped = {name for given in names for name in _meant(given)}
    return tuple(step for step in steps if step.name not in dropped)


def _meant(name: str) -> tuple[str, ...]:
    kinds = all_passes()
    if name in COUNTERPARTS:
        return COUNTERPARTS[name]
    if name == _GROUP:
        return tuple(n for n, kind in kinds.items() if kind.__module__.startswith(_FUSE))
    if name in _ABSENT:
        warn(f"no pass here does what {name} does in OnnxSlim; nothing is left out for it")
        return ()
    ours = name.replace("_", "-")
    if ours in kinds:
        return (ours,)
    known = [*kinds, *COUNTERPARTS, _GROUP, *_ABSENT]
    hint = did_you_mean(name, known, otherwise=LIST_THEM)
    raise SpecError(f"cannot leave out {name!r}: no pass is called so{hint}")


def limited(steps: Sequence[Pass], size: int | None) -> tuple[Pass, ...]:
    """Return *steps*, those that compute values limited to values of *size* bytes."""
    if not size:
        return tuple(steps)
    if size < 0:
        raise InputError(f"size_threshold is {size}; give a number of bytes")
    return tuple(
        replace(step, **{"max_bytes": size}) if _has(step, "max_bytes") else step for step in steps
    )


def _has(step: Pass, option: str) -> bool:
    return any(field.name == option for field in fields(step))


def shapes(given: Mapping[str, Sequence[int]] | Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Read input shapes: a mapping, or texts such as ``"image:1,3,224,224"``."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return {name: tuple(shape) for name, shape in given.items()}
    return dict(map(_shape, given))


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, colon, dims = text.rpartition(":")
    try:
        shape = tuple(int(dim) for dim in dims.split(",") if dim.strip())
    except ValueError:
        colon = ""
    if not colon or not name:
        raise InputError(f"input shape {text!r}: write NAME:1,3,224,224")
    return name, shape


def feeds(given: Iterable[str], specs: Sequence[InputSpec], seed: int = 0) -> Calibration:
    """Make feeds from texts: ``"name:1,3,224,224"`` (values are made up) or ``"name:file.npy"``.

    Dimensions that share a name with one that is given follow it. Raises DataError or InputError.
    """
    names = [spec.name for spec in specs]
    arrays: dict[str, Any] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, _, value = text.rpartition(":")
        if value.endswith(".npy"):
            arrays[name] = _array(Path(value))
            sizes[name] = arrays[name].shape
        else:
            name, sizes[name] = _shape(text)
        if name not in names:
            raise DataError(f"no input is called {name!r}; the inputs are {', '.join(names)}")
    fixed = [replace(spec, shape=shape) for spec, shape in _settled(specs, sizes)]
    made: Iterable[Feed] = itertools.islice(generate(fixed, seed), 1 if arrays else _FEEDS)
    return Calibration.of([{**feed, **arrays} for feed in made], specs)


def _settled(
    specs: Sequence[InputSpec], sizes: Mapping[str, tuple[int, ...]]
) -> list[tuple[InputSpec, tuple[Dim, ...] | None]]:
    """Pair inputs with their shapes, sizes filled in where they are given or follow."""
    symbols: dict[str, int] = {}
    for spec in specs:
        for dim, size in zip(spec.shape or (), sizes.get(spec.name, ()), strict=False):
            if isinstance(dim, str):
                symbols[dim] = size
    return [
        (spec, sizes[spec.name] if spec.name in sizes else _filled(spec.shape, symbols))
        for spec in specs
    ]


def _filled(shape: tuple[Dim, ...] | None, symbols: Mapping[str, int]) -> tuple[Dim, ...] | None:
    if shape is None:
        return None
    return tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def ends(given: Iterable[str] | None) -> list[str] | None:
    """Return names of inputs or outputs; a type behind one, as in ``"y:fp16"``, is left out."""
    names = []
    for text in [given] if isinstance(given, str) else given or ():
        name, _, kind = text.rpartition(":")
        if name and kind in _TYPES:
            warn(f"the type in {text!r} changes nothing: {name} keeps the type it has")
        names.append(name if name and kind in _TYPES else text)
    return names or None


def warn(message: str) -> None:
    """Warn the one who called into this package."""
    warnings.warn(message, UserWarning, stacklevel=3)


def speak() -> None:
    """Let this package's log be seen on standard error."""
    logger = logging.getLogger("onnxslim")
    logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("onnxslim: %(message)s"))
        logger.addHandler(handler)
