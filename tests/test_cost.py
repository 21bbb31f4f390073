"""Costs that can be worked out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from kit import model
from onnxslim.cost import Layer, layers, measure
from onnxslim.ir import Model


def model_of(body: str, inputs: str = "float[N, 4] x") -> Model:
    text = f"""<ir_version: 10, opset_import: ["" : 23]> g ({inputs}) => (y) {body}"""
    return Model.from_proto(parser.parse_model(text))


@pytest.mark.parametrize(
    ("inputs", "body", "macs"),
    [
        ("float[2,3,8,8] x, float[6,3,3,3] w", "y = Conv<pads = [1,1,1,1]>(x, w)", 2 * 6 * 64 * 27),
        ("float[2,4,8,8] x, float[4,1,3,3] w", "y = Conv<group = 4>(x, w)", 2 * 4 * 36 * 9),
        ("float[1,3,5] x, float[3,2,4] w", "y = ConvTranspose(x, w)", 15 * 8),
        ("uint8[1,3,5] x, uint8[2,3,1] w", "y = ConvInteger(x, w)", 2 * 5 * 3),
        ("float[5,7] x, float[7,2] w", "y = MatMul(x, w)", 5 * 7 * 2),
        ("float[3,1,5,7] x, float[4,7,2] w", "y = MatMul(x, w)", 3 * 4 * 5 * 7 * 2),
        ("float[7] x, float[7,2] w", "y = MatMul(x, w)", 7 * 2),
        ("float[B,S,7] x, float[7,2] w", "y = MatMul(x, w)", 7 * 2),
        ("float[7,5] x, float[2,7] w", "y = Gemm<transA = 1, transB = 1>(x, w)", 5 * 7 * 2),
        ("int8[5,7] x, int8[7,2] w", "y = MatMulInteger(x, w)", 5 * 7 * 2),
        (
            "float[9,2,5] x, float[1,12,5] w, float[1,12,3] r",
            "y, h, c = LSTM<hidden_size = 3>(x, w, r)",
            9 * 2 * 12 * (5 + 3),
        ),
        ("float[2,3,4] x, float[2,4,5] w", 'y = Einsum<equation = "bij,bjk->bik">(x, w)', 120),
        ("float[6,2,3] x, float[3] w", 'y = Einsum<equation = "...i,i->...">(x, w)', 36),
        ("float[2,3] x", 'y = Einsum<equation = "ij->ji">(x)', 0),
        (
            "float[2,4,5,8] x, float[2,4,7,8] k, float[2,4,7,6] v",
            "y = Attention(x, k, v)",
            2 * 4 * 5 * 7 * (8 + 6),
        ),
        (
            "float[2,5,32] x, float[2,7,16] k, float[2,7,16] v",
            "y = Attention<q_num_heads = 4, kv_num_heads = 2>(x, k, v)",
            2 * 4 * 5 * 7 * (8 + 8),
        ),
        ("float[2,3] x", "y = Relu(x)", 0),
        ("float x", "y = MatMul(x, x)", 0),
    ],
)
def test_macs(inputs: str, body: str, macs: int) -> None:
    assert measure(model_of("{" + body + "}", inputs)).macs == macs


def test_macs_of_quantized_operators_use_the_right_weight() -> None:
    matmul = "uint8[5,7] x, float s, uint8 z, uint8[7,2] w"
    assert measure(model_of("{ y = QLinearMatMul(x, s, z, w, s, z, s, z) }", matmul)).macs == 70
    conv = "uint8[1,3,5] x, float s, uint8 z, uint8[2,3,1] w"
    assert measure(model_of("{ y = QLinearConv(x, s, z, w, s, z, s, z) }", conv)).macs == 30


def test_operators_are_counted_everywhere_and_constants_nowhere() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21, "local" : 1]>
    g (bool c, float[N] x) => (float[N] y) {
        one = Constant<value = float {1.0}>()
        z = local.twice(x)
        y = If(c) <
            then_branch = t () => (float[N] a) { a = Add(z, one) },
            else_branch = e () => (float[N] b) { d = Relu(z) b = Add(d, one) }
        >
    }
    <domain: "local", opset_import: ["" : 21]>
    twice (p) => (q) { q = Add(p, p) }
    """
    stats = measure(Model.from_proto(parser.parse_model(text)))
    assert stats.ops == {"Add": 3, "If": 1, "Relu": 1, "local::twice": 1}
    assert list(stats.ops) == sorted(stats.ops)
    assert stats.nodes == 6


def test_parameters_are_all_the_stored_elements() -> None:
    def sparse(name: str) -> onnx.SparseTensorProto:
        return helper.make_sparse_tensor(
            numpy_helper.from_array(np.ones(3, np.float32), name),
            numpy_helper.from_array(np.arange(3)),
            [100],
        )

    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["b"], sparse_value=sparse("")),
        helper.make_node("Constant", [], ["c"], value_strings=["p", "q"]),
        helper.make_node("Sum", ["a", "b", "d", "e", "f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "d"),
         numpy_helper.from_array(np.ones(5, np.float32), "e")],
        sparse_initializer=[sparse("f")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    stats = measure(Model.from_proto(proto))
    assert stats.parameters == 2 + 3 + 2 + 4 + 5 + 3
    assert stats.nodes == 1


def test_bytes_are_those_of_the_file_unless_the_caller_knows() -> None:
    model = model_of("{ y = Relu(x) }")
    assert measure(model).bytes == len(model.to_bytes())
    assert measure(model, size=7).bytes == 7


def test_what_unpacks_weights_is_part_of_the_layer() -> None:
    packed = model("""main (float[2, 4] x) => (float[2, 4] y)
    <int8[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] s = {1,2,3,4}>
    { f = Cast <to = 1> (w) d = Mul(f, s) y = MatMul(x, d) }""")
    assert layers(packed) == [Layer("y", "MatMul", 20, 32, 32)]


def test_a_branch_of_a_constant_condition_reads_what_varies() -> None:
    chosen = model("""main (float[2, 4] x, float[4, 4] v) => (float[2, 4] y) <bool c = {1}>
    { m = If (c) <then_branch = t () => (float[2, 4] a) { a = Identity(x) },
                  else_branch = e () => (float[2, 4] b) { b = Neg(x) }>
      y = MatMul(m, v) }""")
    assert measure(chosen).macs == 32
