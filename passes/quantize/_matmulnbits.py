"""Products by weights of few bits as one operator of onnxruntime's own."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.errors import Declined
from onnxslim.ir import Array, Model, Node
from onnxslim.passes.quantize._grid import fit
from onnxslim.passes.quantize._packing import into_bytes
from onnxslim.passes.quantize._rounding import Rounder
from onnxslim.rewrite import Builder
from onnxslim.sites import Site

DOMAIN = "com.microsoft"
_BLOCK = 32
_ACCURACY_LEVEL = 4
"""Activations are rounded to 8 bits: without that, 2 and 8 bits have no fast kernels."""


def fits(site: Site, model: Model, context: Context) -> bool:
    """Say whether the layer is a product that MatMulNBits computes."""
    node, facts = site.node, context.facts(model)
    given = node.input(0)
    shape = None if given is None else facts.shape(given)
    return (
        site.slot == 1
        and len(site.tensor.shape) == 2
        and len(site.tensor.outputs) == 1
        and site.tensor.elem_type == TensorProto.FLOAT
        and shape is not None
        and len(shape) >= 2
        and (node.operator == "MatMul" or (node.operator == "Gemm" and _is_plain(node)))
    )


def _is_plain(node: Node) -> bool:
    return (node.attr("transA", 0), node.attr("alpha", 1.0), node.attr("beta", 1.0)) == (0, 1, 1)


def put(
    site: Site, model: Model, context: Context, rounder: Rounder, bits: int, block: int, number: int
) -> int:
    """Replace the layer of *site*; return whether that makes the file smaller and was done."""
    node = site.node
    try:
        if block and (block < 16 or block & (block - 1)):
            raise Declined("MatMulNBits takes blocks of 16, 32, 64 … weights")
        new = _layer(site, model, rounder, bits, block or _BLOCK, number)
        gain = ir.stored_bytes(site.tensor) + ir.node_bytes(node) - new.size()
        if gain <= 0:
            for made in new.nodes:
                ir.set_inputs(made, ())
            raise Declined(f"the file would grow by {-gain} bytes")
    except Declined as verdict:
        context.decline(node, str(verdict))
        return 0
    _splice(node, new, model)
    return 1


def _layer(
    site: Site, model: Model, rounder: Rounder, bits: int, block: int, number: int
) -> Builder:
    node = site.node
    assert node.graph is not None
    rows = site.values if site.summed == (1,) else site.values.T
    outputs, inner = rows.shape
    padded = np.pad(rows, [(0, 0), (0, -inner % block)])
    grid = fit(padded, (1,), 1 << bits, block)
    codes = rounder(node, padded, (1,), grid, number)
    new = Builder(model.names, node.graph)
    result = new.MatMulNBits(
        node.inputs[0], _packed(codes, bits), grid.scale.reshape(-1), domain=DOMAIN,
        K=inner, N=outputs, bits=bits, block_size=block, accuracy_level=_ACCURACY_LEVEL,
    )  # fmt: skip
    bias = node.input(2) if node.operator == "Gemm" else None
    if bias is not None:
        new.Add(result, bias)
    return new


def _packed(codes: Array, bits: int) -> Array:
    """Return codes as bytes, (outputs, blocks, bytes); they are stored without a sign."""
    middle = 1 << (bits - 1)
    return into_bytes(codes.astype(np.int16) + middle, bits).reshape(*codes.shape[:2], -1)


def _splice(node: Node, new: Builder, model: Model) -> None:
    """Let the last of the new nodes compute what *node* did."""
    graph, target = node.graph, node.outputs[0]
    assert graph is not None
    node.outputs[0] = ir.absent()
    new.nodes[-1].outputs[0] = target
    ir.erase([node], model.pinned())
    graph.nodes = [item for old in graph.nodes for item in (new.nodes if old is node else (old,))]
    model.import_domain(DOMAIN, 1)
