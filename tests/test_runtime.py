"""Sessions and the evaluation of constant nodes."""

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

import kit
from onnxslim import runtime
from onnxslim.errors import CannotRun
from onnxslim.ir import Constant, Model, Node, Variable
from onnxslim.runtime import (
    Session,
    evaluate,
    limits,
    loadable_ir,
    loadable_opset,
    output_types,
)

f32 = partial(np.array, dtype=np.float32)
i8 = partial(np.array, dtype=np.int8)


def model(text: str, opset: int = 17, ir: int = 8) -> Model:
    return kit.model(text, opset, ir)


ADD = "g (float[N] x) => (float[N] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }"


def session(text: str, optimize: bool = False, **versions: int) -> Session:
    return Session(model(text, **versions).to_bytes(), optimize)


# Sessions


@pytest.mark.parametrize("optimize", [False, True])
def test_a_session_computes_outputs_by_name(optimize: bool) -> None:
    found = session(ADD, optimize).run({"x": f32([1, 1, 1])})
    assert found["y"].tolist() == [2, 3, 4]


def test_an_output_may_be_listed_twice() -> None:
    twice = "g (float x) => (float y, float y) { y = Neg(x) }"
    assert session(twice).run({"x": f32(1)})["y"] == -1


def test_a_session_opens_a_file(tmp_path: Path) -> None:
    model(ADD).save(tmp_path / "m.onnx")
    assert Session(tmp_path / "m.onnx", False).run({"x": f32([0])})["y"].tolist() == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("text", "feed", "wanted"),
    [
        (
            "g (float x) => (float y) { y = Neg(x) }",
            f32(1),
            f32(-1),
        ),
        (
            "g (string[2] x) => (string[2] y) { y = Identity(x) }",
            np.array(["a", "ü"], object),
            np.array(["a", "ü"], object),
        ),
        (
            "g (bfloat16[2] x) => (bfloat16[2] y) { y = Identity(x) }",
            np.array([1, 2], ml_dtypes.bfloat16),
            np.array([1, 2], ml_dtypes.bfloat16),
        ),
        (
            "g (float8e5m2[2] x) => (float8e5m2[2] y) { y = Identity(x) }",
            np.array([1, 2], ml_dtypes.float8_e5m2),
            np.array([1, 2], ml_dtypes.float8_e5m2),
        ),
        (
            "g (int4[3] x) => (int8[3] y) { y = Cast <to = 3> (x) }",
            np.array([1, -2, 7], ml_dtypes.int4),
            i8([1, -2, 7]),
        ),
        (
            "g (int8[3] x) => (int4[3] y) { y = Cast <to = 22> (x) }",
            i8([1, -2, 7]),
            np.array([1, -2, 7], ml_dtypes.int4),
        ),
        (
            "g (bfloat16[0] x) => (bfloat16[0] y) { y = Identity(x) }",
            np.array([], ml_dtypes.bfloat16),
            np.array([], ml_dtypes.bfloat16),
        ),
    ],
)
def test_every_type_goes_in_and_out(text: str, feed: Any, wanted: Any) -> None:
    found = session(text, opset=21, ir=10).run({"x": feed})["y"]
    assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())


def test_sequences_and_maps_come_as_lists_and_dicts() -> None:
    text = """g (float[1, 2] x) => (seq(map(int64, float)) z)
        { z = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 8]> (x) }"""
    found = session(text).run({"x": f32([[0.5, 1]])})
    assert found["z"] == [{7: 0.5, 8: 1.0}]


def test_an_empty_optional_is_none() -> None:
    text = """g (optional(float[2]) x) => (bool has, optional(float[2]) y)
        { has = OptionalHasElement(x)  y = Identity(x) }"""
    assert session(text, opset=18).run({"x": None}) == {"has": False, "y": None}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Session(b"junk", False), "Failed to load model because protobuf parsing failed."),
        (lambda: session("g (float x) => (float y) { y = Foo(x) }"), "This is an invalid model."),
        (
            lambda: session(ADD, ir=99),
            "Unsupported model IR version: 99, max supported IR version: ",
        ),
        (
            lambda: session(ADD).run({"x": f32([1, 2])}),
            "Add: Attempting to broadcast an axis by a dimension other than 1. 2 by 3",
        ),
        (lambda: session(ADD).run({"x": np.ones(3)}), "Unexpected input data type."),
        (lambda: session(ADD).run({}), "Required inputs (['x']) are missing"),
        (lambda: session(ADD).run({"x": object()}), ""),
    ],
)
def test_whatever_goes_wrong_has_a_short_reason(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(CannotRun) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(reason)
    assert 0 < len(text) <= 200
    assert "\n" not in text


def test_a_reason_tells_no_path(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"junk")
    for path in (tmp_path / "m.onnx", tmp_path / "absent.onnx"):
        with pytest.raises(CannotRun) as caught:
            Session(path, False)
        assert str(tmp_path) not in str(caught.value)


def test_failures_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    unused = ADD.replace("w =", "u = {1, 2, 3}, float[3] w =")
    for optimize in (False, True):
        session(unused, optimize).run({"x": f32([1])})
        with pytest.raises(CannotRun):
            session(ADD, optimize).run({"x": f32([1, 2])})
        with pytest.raises(CannotRun):
            session("g (float x) => (float y) { y = Foo(x) }", optimize)
    assert capfd.readouterr() == ("", "")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_dropped_session_frees_its_memory_even_after_an_error() -> None:
    text = "g (float[N, 4096] x) => (float[N, 4096] y) { y = MatMul(x, w) }"
    big = kit.holding(model(text), w=np.ones((4096, 4096), np.float32)).to_bytes()
    before = _resident()
    for _ in range(4):
        with pytest.raises(CannotRun):
            Session(big, True).run({"x": np.ones((1, 3), np.float32)})
    gc.collect()
    assert _resident() - before < 128 << 20  # two of them would be more


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("com.microsoft.BiasGelu(x, b)", ["tensor(float16)"]),
        ("com.microsoft.Nothing(x, b)", []),
    ],
)
def test_types_of_the_outputs_of_a_node(call: str, wanted: list[str]) -> None:
    made = model(f"g (float16[2] x, float16[2] b) => (float16[2] y) {{ y = {call} }}")
    given = [info.type for info in made.proto().graph.input]
    assert output_types(made.graph.nodes[0], given) == wanted


def test_the_limits_are_what_loads() -> None:
    newest_ir, newest_opset = limits()
    text = "g (float[1] x) => (float[1] y) { y = Relu(x) }"
    session(text, opset=newest_opset, ir=newest_ir)
    with pytest.raises(CannotRun):
        session(text, opset=newest_opset + 1, ir=8)
    with pytest.raises(CannotRun):
        session(text, opset=17, ir=newest_ir + 1)


# Constant nodes


def values(of: Model, *names: str) -> dict[str, Any]:
    """Evaluate every node but those that read the input."""
    (given,) = of.graph.inputs
    nodes = [node for node in of.graph.nodes if given not in node.inputs]
    tensors = [t for node in nodes for t in node.outputs if not names or t.name in names]
    return {t.name: value for t, value in evaluate(of, nodes, tensors).items()}


def body(text: str, constants: str = "float[2] c = {1, 2}", **versions: int) -> Model:
    return model(f"g (float[2] x) => (y) <{constants}> {{ {text} y = Neg(x) }}", **versions)


def test_what_is_wanted_is_computed() -> None:
    found = values(body("a = Add(c, c)  b = Mul(a, c)"), "b")
    assert {name: value.tolist() for name, value in found.items()} == {"b": [2, 8]}


def test_results_are_read_only() -> None:
    (value,) = values(body("a = Add(c, c)")).values()
    assert not value.flags.writeable


def test_outputs_of_constant_nodes_are_constants() -> None:
    found = values(body("k = Constant <value = float[2] {5, 6}> ()  a = Add(c, k)"), "a")
    assert found["a"].tolist() == [6, 8]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_constants_of_any_size_are_read(size: int) -> None:
    large = kit.holding(body("a = ReduceSum(big)"), big=np.ones(size, np.float32))
    assert values(large)["a"].tolist() == [size]


def test_types_that_numpy_lacks_are_computed() -> None:
    text = "a = Cast <to = 16> (c)  b = Add(a, a)  i = Cast <to = 22> (c)  f = Cast <to = 17> (c)"
    found = values(body(text, opset=21, ir=10), "a", "i", "f")
    assert {name: (str(v.dtype), v.tolist()) for name, v in found.items()} == {
        "a": ("bfloat16", [1, 2]),
        "i": ("int4", [1, 2]),
        "f": ("float8_e4m3fn", [1, 2]),
    }


def test_a_failing_node_takes_only_its_dependants_along() -> None:
    many = " ".join(f"a{i} = Add(c, c)" for i in range(700))
    text = f"{many} bad = Foo(c)  after = Add(bad, c)  worse = Reshape(c, s)  last = Add(a699, c)"
    found = values(body(text, "float[2] c = {1, 2}, int64[1] s = {7}"))
    assert found.keys() == {*(f"a{i}" for i in range(700)), "last"}


def test_what_only_the_rest_of_a_failing_batch_needs_is_handed_on() -> None:
    text = "a = Add(c, c)  b = Add(a, c)  bad = Foo(c)  d = Add(b, a)  e = Add(d, b)"
    assert values(body(text), "e")["e"].tolist() == [8, 16]


def test_batches_hand_values_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_BATCH", 1)
    text = "a = Add(c, c)  s = SequenceConstruct(a, c)  b = SequenceAt(s, i)  d = Mul(b, a)"
    found = values(body(text, "float[2] c = {1, 2}, int64 i = {0}"))
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [2, 4],
        "b": [2, 4],
        "d": [4, 16],
    }


def test_large_values_are_handed_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_BATCH", 1)
    text = "a = Cast <to = 16> (big)  b = Cast <to = 1> (a)  d = ReduceSum(b)"
    large = kit.holding(body(text), big=np.ones(100_000, np.float32))
    assert values(large)["d"].tolist() == [100_000]


def test_large_attributes_are_filled_in() -> None:
    text = body("k = ConstantOfShape <value = float[1] {3}> (s)", "int64[1] s = {2}")
    proto = text.proto()
    node = proto.graph.node.add(op_type="Constant", output=["z"])
    sparse = node.attribute.add(name="sparse_value", type=11).sparse_tensor
    sparse.dims.append(2000)
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1000, np.float32), "v"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(1000), "i"))
    proto.graph.node.add(op_type="ReduceSum", input=["z"], output=["sum"])
    found = values(Model.from_proto(proto), "k", "sum")
    assert (found["k"].tolist(), found["sum"].tolist()) == ([3, 3], [1000])


def test_optional_inputs_and_outputs_may_be_left_out() -> None:
    text = "a = Clip(c, , m)  b, , d = Unique(c)"
    found = values(body(text, "float[2] c = {2, 1}, float m = {1.5}"))
    assert [found[name].tolist() for name in "abd"] == [[1.5, 1], [1, 2], [1, 0]]


@pytest.mark.parametrize("ops", [{"": 99}, {"ai.onnx": 99}])
def test_an_opset_beyond_onnxruntime_is_lowered_where_nothing_changed(ops: dict[str, int]) -> None:
    newer = body("a = Add(c, c)")
    newer.graph.opsets = ops
    assert values(newer)["a"].tolist() == [2, 4]


def test_an_ir_version_beyond_onnxruntime_does_not_matter() -> None:
    assert values(body("a = Add(c, c)", ir=99))["a"].tolist() == [2, 4]


def test_nodes_run_under_the_opset_of_their_graph() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[3, 2] x) => (y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 11]> f (x) => (y) {
            c = Constant <value = float[1, 2] {1, 2}> ()  s = Squeeze <axes = [0]> (c)
            y = Add(x, s)
        }"""
    old = model(text)
    (function,) = old.functions
    squeeze = function.nodes[1]
    found = evaluate(old, [squeeze], list(squeeze.outputs))
    assert found[squeeze.outputs[0]].tolist() == [1, 2]


def test_nodes_with_subgraphs_and_calls_are_left_out() -> None:
    text = """g (float[2] x) => (y) <float[2] c = {1, 2}, bool t = {1}> {
            a = If (t) <then_branch = p () => (u) { u = Neg(c) },
                        else_branch = q () => (v) { v = Abs(c) }>
            b = local.f(c)  d = Neg(c)  y = Neg(x)
        }
        <domain: "local", opset_import: ["" : 17]> f (x) => (y) { y = Neg(x) }"""
    assert values(model(text)).keys() == {"d"}


def test_what_is_too_new_is_clipped_to_what_loads() -> None:
    newest_ir, newest_opset = limits()
    assert [loadable_ir(version) for version in (4, newest_ir, newest_ir + 1)] == [
        4, newest_ir, newest_ir,
    ]  # fmt: skip
    assert [loadable_opset(version) for version in (7, newest_opset, newest_opset + 1)] == [
        7, newest_opset, newest_opset,
    ]  # fmt: skip


def test_nodes_made_by_passes_are_computed() -> None:
    made = Node("Add", inputs=[Constant("c", f32([1]))] * 2, outputs=[Variable("r")])
    found = evaluate(body(""), [made], list(made.outputs))
    assert found[made.outputs[0]].tolist() == [2]


def test_a_thousand_nodes_take_well_under_a_second() -> None:
    many = body(" ".join(f"a{i} = Add(c, {f'a{i - 1}' if i else 'c'})" for i in range(1000)))
    start = time.perf_counter()
    found = values(many)
    assert (len(found), time.perf_counter() - start < 1) == (1000, True)


def test_strings_are_computed() -> None:
    found = values(body(f"a = Cast <to = {TensorProto.STRING}> (i)", "int64[2] i = {1, 2}"))
    assert found["a"].tolist() == ["1", "2"]
