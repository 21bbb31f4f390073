"""Weights in few bits, which onnxruntime unpacks when it loads the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from onnxslim.base import Context, Effect, Pass, holds_initializers
from onnxslim.ir import Model
from onnxslim.passes.quantize import _matmulnbits
from onnxslim.passes.quantize._grid import block_size, fit
from onnxslim.passes.quantize._packing import within
from onnxslim.passes.quantize._rounding import Rounder, Rounding
from onnxslim.passes.quantize._storage import Packed, Writer
from onnxslim.sites import Site, find, reads_narrow_weights


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Store the weights of layers as integers of few bits, or as halves, to be unpacked at load.

    Layers compute as before, with weights that onnxruntime unpacks once, so that they take no more
    time. There is a scale for every output channel, or for every *block* of weights of an output.
    ``rounding=gptq`` needs calibration data. ``form=matmulnbits`` makes products com.microsoft's
    MatMulNBits, which reads the packed weights each time. Run the lossless recipe before.
    """

    name = "quantize-weights"
    effect = Effect.LOSSY
    by_layer = True
    preconditions = (holds_initializers,)

    bits: Literal[8, 6, 5, 4, 3, 2] = 8
    block: int = 0
    per_channel: bool = True
    symmetric: bool = True
    rounding: Rounding = "nearest"
    form: Literal["cast", "matmulnbits"] = "cast"
    dtype: Literal["int", "fp16", "bf16"] = "int"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.block < 0:
            raise ValueError(f"block={self.block} is no number of weights")
        if self.block and not self.per_channel:
            raise ValueError("blocks lie within channels: leave out per_channel=false")
        if self.form == "matmulnbits" and self.bits not in (8, 4, 2):
            raise ValueError("MatMulNBits takes 8, 4 or 2 bits")
        if self.form == "matmulnbits" and (self.dtype, self.symmetric) != ("int", True):
            raise ValueError("MatMulNBits takes symmetric integers")

    def apply(self, model: Model, context: Context) -> int:
        """Round every weight and store it where that makes the file smaller."""
        reads_narrow_weights(model, context)
        sites = find(model, context)
        writer = Writer(model, context)
        if self.dtype != "int":
            for site in sites:
                self._put_halves(site, writer, context)
            return writer.finish()
        rounder = Rounder(context, self.rounding)
        rounder.observe(model, sites)
        changes = 0
        for number, site in enumerate(sites):
            if self.form == "matmulnbits" and _matmulnbits.fits(site, model, context):
                changes += _matmulnbits.put(
                    site, model, context, rounder, self.bits, self.block, number
                )
            else:
                self._put(site, number, rounder, writer, context)
        changes += writer.finish()
        for site in sites:
            if site.tensor.dropped or site in writer.written:
                rounder.note(site, self.bits)
        return changes

    def _put(
        self, site: Site, number: int, rounder: Rounder, writer: Writer, context: Context
    ) -> None:
        if self.block and not block_size(site.tensor.shape, site.summed, self.block):
            context.decline(site.node, "scaled by channel: its weights do not divide into blocks")
        packing = within(self.bits)
        grid = fit(
            site.values, site.summed, packing.levels, self.block, self.per_channel, self.symmetric
        )
        codes = rounder(site.node, site.values, site.summed, grid, number)
        writer.put(site, [Packed(codes, grid, packing)])

    def _put_halves(self, site: Site, writer: Writer, context: Context) -> None:
        if self.dtype == "bf16" and site.graph.version < 13:
            context.decline(site.node, "bfloat16 needs opset 13")
            return
        dtype = np.float16 if self.dtype == "fp16" else ml_dtypes.bfloat16
        if site.values.dtype.itemsize <= 2:
            context.decline(site.node, "its weights are halves already")
            return
        with np.errstate(over="ignore"):
            halves = site.values.astype(dtype)
        if not np.isfinite(halves.astype(np.float32)).all():
            context.decline(site.node, "its weights are too large for half precision")
            return
        writer.put(site, [halves])
