"""What every operator does to channels; an operator that is not here ends the analysis."""

from __future__ import annotations

from types import MappingProxyType

from onnxslim.passes.channels._elementwise import ELEMENTWISE
from onnxslim.passes.channels._features import FEATURES
from onnxslim.passes.channels._layers import LAYERS
from onnxslim.passes.channels._movement import MOVEMENT
from onnxslim.passes.channels._parts import PARTS

TRANSFERS = MappingProxyType({**LAYERS, **ELEMENTWISE, **FEATURES, **MOVEMENT, **PARTS})
