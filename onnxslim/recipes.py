"""Named pipelines, as the strings one would type."""

from __future__ import annotations

from types import MappingProxyType

RECIPES = MappingProxyType(
    {
        "lossless": (
            "inline-functions,inline-if,inline-loop,trim-control-flow,unpack-sequences,"
            "unpack-optionals,drop-dead,lift-constants,drop-identity,drop-noop-movement,"
            "drop-noop-arithmetic,drop-zero-inputs,fold-known-values,merge-equal-values,"
            "simplify-shape-inputs,rebuild-shape-values,fold-constants,"
            "merge-duplicate-initializers,merge-duplicate-nodes,fuse-conv-bn,"
            "fuse-conv-transpose-bn,fuse-gemm-bn,fuse-affine,fuse-affine-input,fuse-pad,"
            "fuse-matmul-add,drop-matmul-reshapes,drop-shift-before-norm,fold-gemm-factors,"
            "compose-depth-to-space,lower-einsum,compose-layer-norm,compose-rms-norm,"
            "compose-instance-norm,compose-gelu,compose-activations,compose-softmax,"
            "compose-prelu,merge-casts,simplify-logic,drop-idempotent,merge-bounds,"
            "merge-variadic,simplify-arithmetic,merge-scalars,fold-scales,drop-expands,"
            "merge-slices,split-slices,merge-concats,merge-gathers,merge-reduces,"
            "cancel-transposes,merge-reshapes,merge-transposes,merge-quantize"
        ),
        "contrib": "fuse-attention",
    }
)
"""Spec strings by name; a name may stand wherever a pass may."""
