"""What models are known to say, so that small files need not say it: zstandard's dictionary.

It is a part of the file format: another dictionary needs another version. The fragments that occur
most often stand last, where references to them are shortest.
"""

from __future__ import annotations

from onnxslim.ir.wire import encode_varint, header

_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
"""Types of attributes."""

_WORDS = """
pytorch 2.0.0 main_graph torch_jit tf2onnx keras2onnx skl2onnx ai.onnx.ml com.microsoft local
Constant_output_0 Unsqueeze_output_0 Gather_output_0 Shape_output_0 Slice_output_0 Cast_output_0
Concat_output_0 Transpose_output_0 Reshape_output_0 Sigmoid_output_0 Mul_output_0 MatMul_output_0
Relu_output_0 Add_output_0 Conv_output_0 attention encoder decoder embeddings LayerNorm layernorm
query key value dense output intermediate dropout downsample blocks layers layer features
classifier backbone head stem block down up proj attn mlp fc conv bn norm gamma beta moving_mean
moving_variance kernel running_mean running_var num_batches_tracked weight_quantized weight_scale
weight_zero_point _quantized _scale _zero_point onnx::Conv_ onnx::MatMul_ .weight .bias
batch_size sequence_length logits probabilities input_ids attention_mask images data input output
"""
_OPERATORS = """
LSTM GRU Einsum Scan Loop If Where Equal Less Greater Not And Or CumSum ScatterElements ScatterND
GatherElements GatherND TopK NonMaxSuppression Tile Expand Range ConstantOfShape Identity Dropout
ReduceSum ReduceMax ReduceL2 ArgMax Exp Log Erf Tanh Elu HardSwish HardSigmoid LeakyRelu PRelu Clip
Gelu Softplus Floor Mod Neg Abs Sqrt Reciprocal Pow Div Sub Min Max Split Pad Resize Upsample
DepthToSpace InstanceNormalization LayerNormalization LRN AveragePool GlobalAveragePool MaxPool
ConvTranspose DynamicQuantizeLinear MatMulInteger ConvInteger QLinearConv QLinearMatMul
QuantizeLinear DequantizeLinear BitShift ReduceMean Softmax Flatten Squeeze Unsqueeze Shape Slice
Gather Cast Concat Transpose Reshape Sigmoid Mul Add MatMul Gemm BatchNormalization Relu Conv
Constant
"""
_ATTRIBUTES: tuple[tuple[str, int, tuple[int, ...] | int | str], ...] = (
    ("direction", _STRING, "bidirectional"),
    ("hidden_size", _INT, 128),
    ("linear_before_reset", _INT, 1),
    ("equation", _STRING, "bij,bjk->bik"),
    ("mode", _STRING, "linear"),
    ("coordinate_transformation_mode", _STRING, "asymmetric"),
    ("nearest_mode", _STRING, "floor"),
    ("cubic_coeff_a", _FLOAT, 0),
    ("blocksize", _INT, 2),
    ("count_include_pad", _INT, 0),
    ("ceil_mode", _INT, 0),
    ("storage_order", _INT, 0),
    ("epsilon", _FLOAT, 0),
    ("momentum", _FLOAT, 0),
    ("training_mode", _INT, 0),
    ("spatial", _INT, 1),
    ("alpha", _FLOAT, 0),
    ("beta", _FLOAT, 0),
    ("transA", _INT, 0),
    ("transB", _INT, 1),
    ("allowzero", _INT, 0),
    ("axes", _INTS, (0,)),
    ("keepdims", _INT, 1),
    ("to", _INT, 7),
    ("to", _INT, 6),
    ("to", _INT, 1),
    ("axis", _INT, -1),
    ("axis", _INT, 0),
    ("axis", _INT, 1),
    ("perm", _INTS, (0, 2, 1, 3)),
    ("perm", _INTS, (1, 0)),
    ("auto_pad", _STRING, "SAME_UPPER"),
    ("auto_pad", _STRING, "NOTSET"),
    ("dilations", _INTS, (1, 1)),
    ("group", _INT, 1),
    ("kernel_shape", _INTS, (2, 2)),
    ("kernel_shape", _INTS, (1, 1)),
    ("pads", _INTS, (0, 0, 0, 0)),
    ("strides", _INTS, (2, 2)),
    ("kernel_shape", _INTS, (3, 3)),
    ("pads", _INTS, (1, 1, 1, 1)),
    ("strides", _INTS, (1, 1)),
)


def _number(field: int, value: int) -> bytes:
    return encode_varint(field << 3) + encode_varint(value % 2**64)


def _bytes(field: int, value: bytes) -> bytes:
    return header(field, len(value)) + value


def _attribute(name: str, kind: int, value: tuple[int, ...] | int | str) -> bytes:
    if isinstance(value, str):
        content = _bytes(4, value.encode())
    elif isinstance(value, tuple):
        content = b"".join(_number(8, item) for item in value)
    else:
        content = _number(3, value) if kind == _INT else b"\x15"
    return _bytes(5, _bytes(1, name.encode()) + content + _number(20, kind))


def _tensor(dims: tuple[int, ...]) -> bytes:
    return b"".join(_number(1, size) for size in dims) + _number(2, 1)


def _interface(name: str, field: int) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in (1, 3, 224, 224))
    kind = _bytes(1, _number(1, 1) + _bytes(2, dims))
    return _bytes(field, _bytes(1, name.encode()) + _bytes(2, kind))


def _build() -> bytes:
    words = " ".join(_WORDS.split()).encode()
    nodes = b"".join(_bytes(4, name.encode()) for name in _OPERATORS.split())
    attributes = b"".join(_attribute(*attribute) for attribute in _ATTRIBUTES)
    tensors = b"".join(map(_tensor, ((1,), (64,), (64, 64), (64, 64, 1, 1), (64, 64, 3, 3))))
    faces = _interface("input", 11) + _interface("output", 12)
    end = _bytes(8, _bytes(1, b"") + _number(2, 17))
    start = _number(1, 8) + _bytes(2, b"pytorch")
    return words + nodes + attributes + tensors + faces + end + start


DICTIONARY = _build()
