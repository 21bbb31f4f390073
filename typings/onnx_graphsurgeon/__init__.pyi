# The part of onnx-graphsurgeon 0.6 that onnxslim builds on; the library itself ships no types.
import onnx
from onnx_graphsurgeon.ir.function import Function as Function
from onnx_graphsurgeon.ir.graph import Graph as Graph
from onnx_graphsurgeon.ir.node import Node as Node
from onnx_graphsurgeon.ir.tensor import Constant as Constant
from onnx_graphsurgeon.ir.tensor import Tensor as Tensor
from onnx_graphsurgeon.ir.tensor import Variable as Variable
from onnx_graphsurgeon.util.exception import (
    OnnxGraphSurgeonException as OnnxGraphSurgeonException,
)

__version__: str

def import_onnx(onnx_model: onnx.ModelProto) -> Graph: ...
def export_onnx(graph: Graph, do_type_check: bool = True, **kwargs: object) -> onnx.ModelProto: ...
