"""Files that are no models: a ModelError with a reason, whatever the bytes; never anything else."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

import ir_features
from onnxslim.errors import ModelError
from onnxslim.ir import Model, wire

SMALL = ir_features.everything().SerializeToString(deterministic=True)
MUTATIONS = 2000


def use(model: Model) -> None:
    """Do what any run does."""
    model.to_bytes()
    model.proto()
    model.copy()
    assert model.names.fresh("t")
    for node in model.nodes():
        assert isinstance(node.operator, str)
        assert node.attrs is not None
    for constant in model.constants():
        with contextlib.suppress(ModelError):
            assert constant.nbytes >= 0
            assert constant.dtype is not None
            assert constant.values is not None
    with contextlib.suppress(ModelError):
        model.check()
    with contextlib.suppress(ModelError):
        model.sort()


def load(content: bytes, path: Path) -> bool:
    """Say whether *content* loads; anything but success and ModelError is a bug."""
    path.unlink(missing_ok=True)  # never under a map of it
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        use(Model.load(path))
        return True
    return False


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing", None, "does not exist"),
        ("empty", b"", "is empty"),
        ("text", b"ir_version: 8\nproducer: text\n" * 99, "not an ONNX model"),
        ("json", b'{"irVersion": "8"}', "not an ONNX model"),
        ("zip", b"PK\x03\x04" + bytes(100), "not an ONNX model"),
        ("zeros", bytes(5000), "not an ONNX model"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not an ONNX"),
        ("no_graph", b"\x08\x07", "no graph"),
        ("tensor", ir_features.floats("w", 400).SerializeToString(), "tensor.onnx"),
        ("long_number", b"\x08" + b"\xff" * 30, "not an ONNX model"),
        ("too_long", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not an ONNX model"),
    ],
)
def test_what_is_no_model(name: str, content: bytes | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=why) as caught:
        Model.load(path)
    assert path.name in str(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="directory"):
        Model.load(tmp_path)


@pytest.mark.parametrize("name", ["nul\0.onnx", "n" * 300, "file/m.onnx"])
def test_paths_that_cannot_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError):
        Model.load(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(SMALL)
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        Model.load(path)


@pytest.mark.parametrize("proto", [ModelProto(), ModelProto(ir_version=8)])
def test_a_proto_without_graph(proto: ModelProto) -> None:
    with pytest.raises(ModelError, match="no graph"):
        Model.from_proto(proto)


def test_every_prefix_is_refused_or_loads(tmp_path: Path) -> None:
    ends = [n for n in range(len(SMALL)) if n < 2000 or n % 7 == 0]
    loaded = [n for n in ends if load(SMALL[:n], tmp_path / "m.onnx")]
    top_level = {field.end for field in wire._fields(memoryview(SMALL), 0, len(SMALL))}
    assert set(loaded) <= top_level


def mutations(content: bytes, seed: int) -> bytes:
    """Flip, overwrite, cut out or repeat some bytes."""
    rng = np.random.default_rng(seed)
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(data) or 1))
        match rng.integers(5):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << int(rng.integers(8))] if data else [])
            case 1:
                data[at : at + 1] = rng.bytes(1)
            case 2:
                data[at : at + 1] = rng.choice([b"\0", b"\x01", b"\x7f", b"\x80", b"\xff"])
            case 3:
                del data[at : at + int(rng.integers(1, 9))]
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
    return bytes(data)


@pytest.mark.parametrize("model", ["everything", "types", "weights", "functions"])
def test_damaged_files(model: str, tmp_path: Path) -> None:
    builders: dict[str, Callable[[], ModelProto]] = {
        "everything": ir_features.everything,
        "types": ir_features.dims_of_every_kind,
        "weights": ir_features.scalar_and_typed_fields,
        "functions": ir_features.function_attributes,
    }
    content = builders[model]().SerializeToString(deterministic=True)
    tracemalloc.start()
    loaded = 0
    for seed in range(MUTATIONS // 4):
        try:
            loaded += load(mutations(content, seed), tmp_path / "m.onnx")
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert 0 < loaded < MUTATIONS // 4


@pytest.mark.parametrize("name", ir_features.MODELS)
def test_features_survive_use(name: str) -> None:
    with contextlib.suppress(ModelError):
        use(Model.from_proto(ir_features.MODELS[name]()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.graph.node[0].MergeFromString(b"\x0a\x01\xff"),  # an input
        lambda m: m.graph.node[0].MergeFromString(b"\x1a\x01\xff"),  # the name
        lambda m: m.graph.node[0].MergeFromString(b"\x2a\x03\x0a\x01\xff"),  # of an attribute
        lambda m: m.graph.MergeFromString(b"\x12\x01\xff"),
        lambda m: m.MergeFromString(b"\x32\x01\xff"),  # the doc string
        lambda m: m.graph.input[0].MergeFromString(b"\x0a\x01\xff"),
        lambda m: m.graph.initializer.add().MergeFromString(b"\x42\x01\xff"),
    ],
)
def test_names_that_are_no_text(damage: Callable[[ModelProto], object], tmp_path: Path) -> None:
    proto = ir_features.relu()
    damage(proto)
    load(proto.SerializeToString(), tmp_path / "m.onnx")


def test_deep_nesting(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    proto = ir_features.model([], [ir_features.info("x")])
    proto.graph.node.extend(graph.node)
    assert load(proto.SerializeToString(), tmp_path / "m.onnx")
    content = b"\x00" * 2000  # deeper than protobuf and Python go
    for _ in range(2000):
        for key in (b"\x32", b"\x2a", b"\x0a"):  # a graph, of an attribute, of a node
            content = key + wire.encode_varint(len(content)) + content
    assert not load(b"\x3a" + wire.encode_varint(len(content)) + content, tmp_path / "m.onnx")


def test_a_cycle_is_named() -> None:
    nodes = [helper.make_node("Neg", ["a"], ["b"], name="n"), helper.make_node("Neg", ["b"], ["a"])]
    model = Model.from_proto(ir_features.model(nodes, [], [ir_features.info("a")]))
    with pytest.raises(ModelError, match="cycle through Neg 'n'"):
        model.sort()


# Model.check --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("undefined_input", "'ghost', which nothing defines"),
        ("output_from_nowhere", "'ghost' is computed by no node"),
        ("output_defined_twice", "'y' is defined more than once"),
        ("function_body_odd", "'ghost', which nothing defines"),
    ],
)
def test_check_finds(name: str, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        Model.from_proto(ir_features.MODELS[name]()).check()


def test_check_finds_a_node_that_redefines_an_input() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["x"])]
    proto = ir_features.model(nodes, [ir_features.info("x")], [ir_features.info("x")])
    with pytest.raises(ModelError, match="'x' is defined more than once"):
        Model.from_proto(proto).check()


def test_check_finds_what_a_branch_cannot_read() -> None:
    proto = ir_features.if_model(
        ir_features.branch("Neg", "t", ["hidden"]), ir_features.branch("Neg", "hidden")
    )
    with pytest.raises(ModelError, match="'hidden', which nothing defines"):
        Model.from_proto(proto).check()


SOUND = [
    "plain",
    "branches_read_outer_values",
    "branches_read_what_is_defined_later",
    "branch_returns_an_outer_value",
    "constants_of_every_form",
    "function_attributes",
    "function_with_branches",
    "initializer_is_input_ir3",
    "initializer_is_input_ir8",
    "initializer_is_output",
    "left_out_operands",
    "loop",
    "nested_branches",
    "scan",
    "sparse_initializer",
    "subgraph_initializer_is_input",
    "unsorted",
]


@pytest.mark.parametrize("name", SOUND)
def test_check_accepts(name: str) -> None:
    proto = ir_features.MODELS[name]()
    if name == "left_out_operands":  # LSTM reads two that the model leaves undefined
        proto.graph.initializer.extend([ir_features.floats("w"), ir_features.floats("r")])
    Model.from_proto(proto).check()


def test_what_loads_is_what_onnx_loads(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(SMALL)
    assert Model.load(path).proto() == onnx.load(path)
