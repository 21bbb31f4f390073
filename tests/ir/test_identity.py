"""Zero passes give identical bytes, whatever the file says."""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import GraphProto, ModelProto, helper
from onnx.backend.test import loader

import ir_features
from onnxslim.errors import ModelError
from onnxslim.ir import Model

SHARED = Path(__file__).parents[3] / "shared"
ARCHITECTURES = ["mobilenet_v2.dynamo", "gpt2_kv.ts", "lstm_tagger.tsraw", "detr_like.dynraw"]


def serialized(proto: ModelProto) -> bytes:
    return proto.SerializeToString(deterministic=True)


def read_everything(model: Model) -> None:
    """Look at whatever a pass may look at, at least once."""
    for node in model.nodes():
        assert node.attrs is not None
    for constant in model.constants():
        try:
            assert not constant.values.flags.writeable
        except ModelError:  # an element type that this release of onnx cannot decode
            continue
    assert model.names.fresh("t")
    list(model.pinned())


def lost(model: Model, content: bytes) -> list[str]:
    """Name the ways out of *model* that do not give *content* back."""
    ways: dict[str, Callable[[], bytes]] = {
        "to_bytes": model.to_bytes,
        "proto": lambda: serialized(model.proto()),
        "copy": lambda: model.copy().to_bytes(),
        "size": lambda: content if model.size() == len(content) else b"",
    }
    bad = [name for name, way in ways.items() if way() != content]
    read_everything(model)
    model.compact()
    return bad + [f"{name}, once read" for name, way in ways.items() if way() != content]


def quickly_lost(content: bytes, path: Path) -> list[str]:
    """Do the same with every way in and out once, for large numbers of models."""
    path.write_bytes(content)
    made = Model.from_proto(ModelProto.FromString(content))
    loaded = Model.load(path)
    ways = {"to_bytes": made.to_bytes(), "copy": loaded.copy().to_bytes()}
    read_everything(loaded)
    ways |= {"once read": loaded.to_bytes(), "proto": serialized(loaded.proto())}
    return [name for name, bytes_ in ways.items() if bytes_ != content]


def lost_by_any_way_in(proto: ModelProto, folder: Path) -> list[str]:
    content = serialized(proto)
    bad = lost(Model.from_proto(proto), content)
    if serialized(proto) != content:
        bad.append("the caller's proto was changed")
    path = folder / "model.onnx"
    path.write_bytes(content)
    return bad + [f"{way}, from a file" for way in lost(Model.load(path), content)]


@pytest.mark.parametrize("name", ir_features.MODELS)
def test_keeps_every_feature(name: str, tmp_path: Path) -> None:
    assert not lost_by_any_way_in(ir_features.MODELS[name](), tmp_path)


@pytest.mark.parametrize("name", ir_features.MODELS)
def test_saving_keeps_every_feature(name: str, tmp_path: Path) -> None:
    content = serialized(ir_features.MODELS[name]())
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    source.write_bytes(content)
    Model.load(source).save(target)
    assert target.read_bytes() == content


def backend_models(kind: str) -> Iterator[tuple[str, ModelProto]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reference computations
        cases = loader.load_model_tests(kind=kind)
    for case in cases:
        if case.model is not None:
            yield case.name, case.model
        elif case.model_dir is not None:
            yield case.name, onnx.load(Path(case.model_dir) / "model.onnx")


@pytest.mark.parametrize(
    ("kind", "count"),
    [("node", 1500), ("simple", 15), ("pytorch-converted", 50), ("pytorch-operator", 25)],
)
def test_keeps_the_backend_corpus(kind: str, count: int, tmp_path: Path) -> None:
    models, path = list(backend_models(kind)), tmp_path / "model.onnx"
    bad = [(name, way) for name, m in models for way in quickly_lost(serialized(m), path)]
    assert not bad
    assert len(models) >= count, "the installed onnx ships fewer cases than it used to"


def test_keeps_the_light_models(tmp_path: Path) -> None:
    paths, copy = sorted((Path(loader.DATA_DIR) / "light").glob("*.onnx")), tmp_path / "m.onnx"
    assert paths
    models = ((path.name, serialized(onnx.load(path))) for path in paths)
    assert not [(name, way) for name, content in models for way in quickly_lost(content, copy)]


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="no folder of real models here")
def test_keeps_real_models(tmp_path: Path) -> None:
    bad = []
    for path in sorted((SHARED / "models").rglob("*.onnx")):
        if "external" not in path.parts:  # those are in test_weights.py
            content = serialized(onnx.load(path))
            bad += [(path.name, way) for way in quickly_lost(content, tmp_path / "m.onnx")]
    assert not bad


@pytest.mark.skipif(not (SHARED / "archs").is_dir(), reason="no exported architectures here")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keeps_what_exporters_write(name: str, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("skeleton", SHARED / "tools" / "skeleton.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    proto = tool.restore(SHARED / "archs" / f"{name}.skel.xz")
    assert not quickly_lost(serialized(proto), tmp_path / "m.onnx")


def test_copies_are_independent() -> None:
    model = Model.from_proto(ir_features.everything())
    content = model.to_bytes()
    copy = model.copy()
    for node in copy.nodes():
        node.name = "renamed"
    assert copy.to_bytes() != content
    assert model.to_bytes() == content


# What is not kept: declarations that contradict each other ----------------------------------------


def test_of_two_declarations_of_a_type_the_last_counts() -> None:
    proto = ir_features.relu()
    proto.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    proto.graph.value_info.extend([ir_features.info("z"), ir_features.info("z", shape=(3,))])
    kept = list(Model.from_proto(proto).proto().graph.value_info)
    assert kept == [ir_features.info("z", shape=(3,))]


def test_of_two_graph_attributes_of_a_name_the_last_counts() -> None:
    graphs: list[GraphProto] = [ir_features.branch("Relu", "g"), ir_features.branch("Neg", "h")]
    proto = ir_features.with_attribute(helper.make_attribute("a", graphs[0]))
    proto.graph.node[0].attribute.append(helper.make_attribute("a", graphs[1]))
    (kept,) = Model.from_proto(proto).proto().graph.node[0].attribute
    assert kept.g == graphs[1]


# A change touches what it changes -----------------------------------------------------------------


def changed(edit: Callable[[Model], object], proto: ModelProto) -> tuple[ModelProto, ModelProto]:
    model = Model.from_proto(proto)
    edit(model)
    return proto, model.proto()


def test_a_changed_attribute_keeps_the_others_verbatim() -> None:
    node = helper.make_node("Custom", ["x"], ["y"], domain="test")
    node.attribute.extend(
        [
            helper.make_attribute("kept", float("nan"), doc_string="doc"),
            helper.make_attribute("changed", 1, doc_string="doc"),
            ir_features.ATTRIBUTES["types"],
        ]
    )
    proto = ir_features.model([node], [ir_features.info("x")], [ir_features.info("y")])
    before, after = changed(lambda m: m.graph.nodes[0].attrs.update(changed=2), proto)
    (old,), (new,) = before.graph.node, after.graph.node
    assert serialized_attribute(new, 0) == serialized_attribute(old, 0)
    assert new.attribute[1].i == 2
    assert serialized_attribute(new, 2) == serialized_attribute(old, 2)


def serialized_attribute(node: onnx.NodeProto, index: int) -> bytes:
    return node.attribute[index].SerializeToString(deterministic=True)


def test_negative_zero_is_a_change() -> None:
    proto = ir_features.with_attribute(helper.make_attribute("a", 0.0))
    _, after = changed(lambda m: m.graph.nodes[0].attrs.update(a=-0.0), proto)
    assert str(after.graph.node[0].attribute[0].f) == "-0.0"


def test_an_emptied_list_keeps_the_type_that_the_operator_declares() -> None:
    node = helper.make_node("Custom", ["x"], ["y"], floats=[1.0])
    unsqueeze = helper.make_node("Unsqueeze", ["y"], ["z"], axes=[0])
    label = helper.make_node("LabelEncoder", ["z"], ["l"], domain="ai.onnx.ml", keys_strings=["a"])
    proto = ir_features.model([node, unsqueeze, label], [ir_features.info("x")], [], opset=11)

    def clear(model: Model) -> None:
        for node in model.nodes():
            node.attrs = {name: [] for name in node.attrs}

    _, after = changed(clear, proto)
    assert [n.attribute[0].type for n in after.graph.node[1:]] == [
        onnx.AttributeProto.INTS,
        onnx.AttributeProto.STRINGS,
    ]


def test_a_renamed_output_keeps_its_declared_fields() -> None:
    def rename(model: Model) -> None:
        model.graph.outputs[0].name = "renamed"

    before, after = changed(rename, ir_features.value_info_fields())
    expected = before.graph.output[0]
    expected.name = "renamed"
    assert after.graph.output[0] == expected
    assert after.graph.node[0].output[0] == "renamed"


def test_a_changed_shape_is_written() -> None:
    def reshape(model: Model) -> None:
        model.graph.inputs[0].shape = ["n"]

    _, after = changed(reshape, ir_features.relu())
    assert after.graph.input[0] == ir_features.info("x", shape=("n",))


def test_the_types_of_tensors_that_are_gone_go_too() -> None:
    def drop(model: Model) -> None:
        model.graph.nodes = model.graph.nodes[2:]

    _, after = changed(drop, ir_features.value_info_of_everything())
    names = [info.name for info in after.graph.value_info]
    assert names == ["unknown", "y", "w", "x", "unknown2"]


def test_a_new_name_never_inherits_a_declared_type() -> None:
    model = Model.from_proto(ir_features.value_info_of_everything())
    assert model.names.fresh("unknown") != "unknown"
    model = Model.from_proto(ir_features.quantization_annotation_of_unknown())
    assert model.names.fresh("nowhere") != "nowhere"
