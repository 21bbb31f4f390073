"""Nodes that fail for the ranks of what they read, whatever the values.

Source: GRU, LSTM, RNN, Gemm, Conv, ConvTranspose and Transpose of the ONNX operator specification,
in all versions. What onnxruntime computes all the same does not count: it takes vectors for the
first factor of Gemm, and empty tensors of other ranks in Concat.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxslim.shapes.site import Site

_RECURRENT = {0: 3, 1: 3, 2: 3, 3: 2, 5: 3, 6: 3}
"""X, W, R, B, and the states to begin with."""


def is_doubtful(site: Site) -> bool:
    """Say whether a rank that a node reads is not known."""
    return any(_rank(site, slot) is None for slot in range(len(site.node.inputs)) if site.has(slot))


def _rank(site: Site, slot: int) -> int | None:
    tensor = site.node.input(slot)
    shape = None if tensor is None else site.known.shape(tensor)
    return None if shape is None else len(shape)


def _recurrent(site: Site) -> bool:
    return any(_rank(site, slot) not in (None, rank) for slot, rank in _RECURRENT.items())


def _gemm(site: Site) -> bool:
    return _rank(site, 0) not in (None, 1, 2) or _rank(site, 1) not in (None, 2)


def _convolution(site: Site) -> bool:
    image, weight = _rank(site, 0), _rank(site, 1)
    return image is not None and weight is not None and image != weight


def _transpose(site: Site) -> bool:
    order = site.node.attr("perm")
    return isinstance(order, list) and _rank(site, 0) not in (None, len(order))


RULES: dict[str, Callable[[Site], bool]] = {
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    "Gemm": _gemm,
    "Transpose": _transpose,
}
"""Say whether a node surely fails, by the ranks that are known."""
