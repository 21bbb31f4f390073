"""Named pipelines, as the strings one would type."""

from __future__ import annotations

from types import MappingProxyType

RECIPES = MappingProxyType(
    {
        "lossless": (
            "drop-dead,lift-constants,drop-identity,drop-noop-movement,drop-noop-arithmetic,"
            "fold-shapes,fold-constants,merge-duplicate-initializers,merge-duplicate-nodes,"
            "fuse-conv-bn,fuse-conv-transpose-bn,fuse-gemm-bn"
        ),
    }
)
"""Spec strings by name; a name may stand wherever a pass may."""
