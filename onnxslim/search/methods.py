"""The methods that are tried, each with its levels, from mild to strong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_BITS = (8, 6, 5, 4, 3, 2)
_VALUES = (256, 40, 16, 9, 6, 4)
_ROWS = (2, 3, 4, 6, 8, 12)
_ZEROS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_RATIOS = (0.9, 0.75, 0.6, 0.45, 0.3, 0.2)
_CHANNELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_TUNED = (0.5, 0.7, 0.8, 0.9, 0.94, 0.96)

BEFORE, AFTER = "lossless", "lossless,strip"
"""What every candidate begins and ends with."""

_METHODS: Mapping[str, tuple[str, ...]] = {
    "lossless": ("",),
    "integers": ("quantize-static",),
    "integers, weights only": tuple(f"quantize-weights{{bits={b},rounding=gptq}}" for b in _BITS),
    "integers, products only": ("quantize-dynamic",),
    "sharing": tuple(f"share{{values={v},weighting=power}}" for v in _VALUES),
    "sharing of rows": tuple(f"share{{values=256,rows={r}}}" for r in _ROWS),
    "pruning": tuple(f"prune{{sparsity={s},criterion=obs}},share{{values=40}}" for s in _ZEROS),
    "channels": tuple(f"prune-channels{{ratio={r},scope=model}}" for r in _CHANNELS),
    "low rank": tuple(f"factorize-low-rank{{ratio={r}}}" for r in _RATIOS),
    "low rank, integers": tuple(
        f"factorize-low-rank{{ratio={r}}},lossless,quantize-weights{{bits=8}}" for r in _RATIOS
    ),
    "Kronecker products": tuple(f"factorize-kronecker{{ratio={r}}}" for r in _RATIOS[1::2]),
}
_WITH_TUNING: Mapping[str, tuple[str, ...]] = {
    "pruning and sharing, tuned": tuple(
        f"tune{{sparsity={s},epochs=12,lr=0.03,temperature=4}},share{{values=16}},"
        "tune{epochs=3,lr=0.005,temperature=4}"
        for s in _TUNED
    ),
    "sharing, tuned": tuple(
        f"share{{values={v}}},tune{{epochs=4,lr=0.005,temperature=4}}" for v in _VALUES
    ),
    "sharing of rows, tuned": tuple(
        f"share{{values=256,rows={r}}},tune{{epochs=6,lr=0.02,temperature=4}}" for r in _ROWS
    ),
    "channels, tuned": tuple(
        f"prune-channels{{ratio={r}}},lossless,tune{{epochs=6,lr=0.01,temperature=4}},"
        "quantize-weights{bits=8}"
        for r in _CHANNELS
    ),
    "low rank, tuned": tuple(
        f"factorize-low-rank{{ratio={r}}},lossless,tune{{epochs=4,lr=0.01,temperature=4}},"
        "quantize-weights{bits=8}"
        for r in _RATIOS
    ),
}


def methods(tuning: bool, classes: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield name and levels of every method, as specs of pipelines.

    *classes* says whether outputs are scores of classes, which tuning then compares as such.
    """
    found = {**_METHODS, **(_WITH_TUNING if tuning else {})}
    for name, levels in found.items():
        specs = [spec.replace("temperature=4", "temperature=4,loss=kl") if classes
                 else spec.replace(",temperature=4", "") for spec in levels]  # fmt: skip
        yield name, [whole(spec) for spec in specs]


def whole(spec: str) -> str:
    """Return the pipeline of a candidate."""
    return ",".join(part for part in (BEFORE, spec, AFTER) if part)


def by_layer() -> Iterator[tuple[str, ...]]:
    """Yield what may be done to single layers: the passes, in order."""
    for bits in _BITS:
        yield (f"quantize-weights{{bits={bits},rounding=gptq}}",)
    yield ("share{values=256,rows=4}",)
    for sparsity, values in ((0.5, 40), (0.7, 40), (0.8, 16), (0.9, 16)):
        yield f"prune{{sparsity={sparsity},criterion=obs}}", f"share{{values={values}}}"
