"""Named pipelines, as the strings one would type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from types import MappingProxyType


@dataclass(frozen=True)
class Recipe:
    """A pipeline with a name, and numbers in it that a caller may choose."""

    spec: str
    """``$name`` stands for the value of an option."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Their defaults, by name."""

    def written(self, given: Mapping[str, str]) -> str:
        """Return the pipeline with what was *given* of its options."""
        return Template(self.spec).substitute({**self.options, **given})


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

_LEARNING = "batch=$batch,loss=$loss,temperature=$temperature,shift=$shift,mirror=$mirror"
_DEEP = (
    f"lossless,tune{{sparsity=$sparsity,epochs=$epochs,lr=$lr,{_LEARNING}}},"
    f"share{{values=$values,aim=$aim}},tune{{epochs=$finish,lr=$finish_lr,{_LEARNING}}},strip"
)
"""Han et al. 2016, Deep Compression, with pruning while tuning and no labels (docs/deep.md)."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "lossless": Recipe(_LOSSLESS),
        "lossless-bytes": Recipe(_LOSSLESS.replace("-channels,", "-channels{align=bytes},")),
        "contrib": Recipe("fuse-attention"),
        "deep": Recipe(
            _DEEP,
            {
                "sparsity": "0.9",
                "values": "16",
                "aim": "file",
                "epochs": "20",
                "lr": "0.03",
                "finish": "4",
                "finish_lr": "0.005",
                "batch": "64",
                "loss": "auto",
                "temperature": "4",
                "shift": "0",
                "mirror": "false",
            },
        ),
    }
)
"""Recipes by name; a name may stand wherever a pass may."""
