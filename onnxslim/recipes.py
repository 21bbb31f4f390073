"""Named pipelines, as the strings one would type."""

from __future__ import annotations

from types import MappingProxyType

_LOSSLESS = (
    "inline-functions,inline-if,inline-loop,trim-control-flow,unpack-sequences,"
    "unpack-optionals,drop-dead,lift-constants,drop-identity,drop-noop-movement,"
    "drop-noop-arithmetic,drop-zero-inputs,drop-ordered-gathers,fold-known-values,"
    "merge-equal-values,simplify-shape-inputs,rebuild-shape-values,lower-cast-like,"
    "fold-constants,merge-duplicate-initializers,merge-duplicate-nodes,"
    "fold-constant-channels,merge-duplicate-channels,drop-dead-channels,fuse-conv-bn,"
    "fuse-conv-transpose-bn,fuse-gemm-bn,fuse-affine,fuse-affine-input,fuse-pad,"
    "fuse-affine-dequantized,fuse-conv-sum,fuse-conv-conv,hoist-average-pool,"
    "fuse-matmul-sum,fuse-matmul-add,fuse-matmul-matmul,merge-concatenated-layers,"
    "drop-matmul-reshapes,drop-shift-before-norm,fold-gemm-factors,compose-depth-to-space,"
    "split-low-rank,lower-einsum,compose-layer-norm,compose-rms-norm,fuse-norm-matmul,"
    "compose-instance-norm,compose-gelu,compose-activations,compose-softmax,"
    "compose-prelu,merge-casts,simplify-logic,drop-idempotent,merge-bounds,"
    "merge-variadic,simplify-arithmetic,lift-scalars,merge-scalars,merge-affine,"
    "fold-scales,fold-part-scales,drop-expands,merge-slices,split-slices,split-gathers,"
    "merge-concats,bypass-concats,merge-gathers,merge-moves,merge-reduces,"
    "cancel-transposes,cancel-reshapes,merge-reshapes,merge-transposes,"
    "merge-gather-moves,merge-quantize,drop-saturated-clips,drop-softmax-before-argmax,"
    "factorize-structured"
)

RECIPES = MappingProxyType(
    {
        "lossless": _LOSSLESS,
        "lossless-bytes": _LOSSLESS.replace("-channels,", "-channels{align=bytes},"),
        "contrib": "fuse-attention",
    }
)
"""Spec strings by name; a name may stand wherever a pass may."""
