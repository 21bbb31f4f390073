"""Weights stay in their files, come out right, and are saved without harm to what was there."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ir_features
from onnxslim.errors import ModelError, OutputError
from onnxslim.ir import Constant, Model, constant, weights, wire
from onnxslim.ir.weights import spooled

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def values_of(model: Model) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: tensor.values for tensor in model.constants()}


def external(folder: Path, name: str = "m.onnx", **options: Any) -> ModelProto:
    """Save a model with several tensors in an external file; return it complete."""
    proto = ir_features.large_everywhere()
    del proto.training_info[:]
    folder.mkdir(exist_ok=True)
    saved = ModelProto.FromString(proto.SerializeToString())  # onnx empties what it saves
    onnx.save(saved, folder / name, save_as_external_data=True, **options)
    return proto


def rewired(folder: Path, **entries: str) -> Path:
    """Save a model with one external tensor, whose reference gets *entries*."""
    proto = ir_features.relu()
    proto.graph.initializer.append(ir_features.floats("w", ir_features.LARGE))
    path = folder / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    (tensor,) = proto.graph.initializer
    kept = {e.key: e.value for e in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("count", [0, 5, 8200])
@pytest.mark.parametrize(("name", "elem"), ir_features.ELEMENT_TYPES)
def test_values_are_what_onnx_says(name: str, elem: int, count: int, raw: bool) -> None:
    tensor = ir_features.tensor_of(elem, count, raw)
    model = Model.from_proto(ir_features.model([], initializers=[tensor]))
    (found,) = model.constants()
    expected = numpy_helper.to_array(tensor)
    assert found.values.dtype == found.dtype == expected.dtype
    assert found.elem_type == elem
    assert found.shape == found.values.shape == expected.shape
    assert (
        found.values.tolist() == expected.tolist() or found.values.tobytes() == expected.tobytes()
    )
    assert not found.values.flags.writeable
    if name != "STRING":
        assert found.nbytes == len(numpy_helper.from_array(expected).raw_data)


@pytest.mark.parametrize(("name", "elem"), ir_features.ELEMENT_TYPES)
def test_new_values_of_every_type_are_written(name: str, elem: int) -> None:
    array = numpy_helper.to_array(ir_features.tensor_of(elem, 1030, raw=False))
    model = Model.from_proto(ir_features.model([], initializers=[ir_features.floats("w")]))
    (found,) = model.constants()
    found.values = array
    (written,) = model.proto().graph.initializer
    assert (written.name, written.data_type) == ("w", elem)
    again = numpy_helper.to_array(written)
    assert again.tolist() == array.tolist() or again.tobytes() == array.tobytes()


def test_strings_that_are_no_text_stay_bytes() -> None:
    tensor = ir_features.texts("w", b"\xff", b"a")
    (found,) = Model.from_proto(ir_features.model([], initializers=[tensor])).constants()
    assert found.values.tolist() == [b"\xff", b"a"]


def test_new_values_of_a_constant_node_are_written() -> None:
    model = Model.from_proto(ir_features.constants_of_every_form())
    named = {tensor.name: tensor for tensor in model.constants()}
    named["value"].values = np.array([7, 8], np.int64)
    named["value_float"].values = named["value_float"].values + 1
    written = {node.output[0]: node.attribute for node in model.proto().graph.node if node.output}
    assert numpy_helper.to_array(written["value"][0].t).tolist() == [7, 8]
    assert numpy_helper.to_array(written["value_float"][0].t) == np.float32(1.1)
    assert written["value_int"][0].i == 3
    assert Model.from_proto(model.proto()).to_bytes() == model.to_bytes()


def test_values_are_views_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    tensor = ir_features.floats("w", 100_000)
    path.write_bytes(ir_features.model([], initializers=[tensor]).SerializeToString())
    (found,) = Model.load(path).constants()
    assert not found.values.flags.owndata
    assert found.values is found.values
    np.testing.assert_array_equal(found.values, numpy_helper.to_array(tensor))


@pytest.mark.parametrize("count", [3, 1000, weights.SPOOL_FROM])
def test_nobody_writes_to_values(count: int) -> None:
    array = np.arange(count, dtype=np.float32)
    changed = Model.from_proto(ir_features.model([], initializers=[ir_features.floats("w")]))
    (assigned,) = changed.constants()
    assigned.values = array
    made = [constant("c", array), Constant("d", array), assigned]
    for tensor in made:
        with pytest.raises(ValueError, match="read-only"):
            tensor.values[0] = 1
        np.testing.assert_array_equal(tensor.values, array)
    assert array.flags.writeable


def test_a_variable_turned_into_a_constant_is_read_only() -> None:
    model = Model.from_proto(ir_features.relu())
    tensor = model.graph.nodes[0].outputs[0].to_constant(np.zeros(2, np.float32))
    assert type(tensor) is Constant
    assert not tensor.values.flags.writeable


@pytest.mark.parametrize("dims", [(4,), (-1,), (2, 3), (2**40,)])
@pytest.mark.parametrize("count", [2, ir_features.LARGE])
def test_values_that_do_not_fit_their_shape_are_refused(dims: tuple[int], count: int) -> None:
    tensor = ir_features.floats("w", count)
    tensor.ClearField("dims")
    tensor.dims.extend(dims)
    (found,) = Model.from_proto(ir_features.model([], initializers=[tensor])).constants()
    with pytest.raises(ModelError, match="'w'"):
        assert found.values.size


# Spooling -----------------------------------------------------------------------------------------


def test_large_arrays_are_spooled_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPOOL_FROM", 1000)
    monkeypatch.setattr(weights, "_SPOOL_SIZE", 1 << 16)
    rng = np.random.default_rng(0)
    arrays: list[npt.NDArray[Any]] = [
        rng.normal(size=int(n)).astype(np.float32) for n in rng.integers(1, 30_000, 50)
    ]
    arrays += [np.asfortranarray(rng.normal(size=(40, 50))), np.zeros((0, 5)), np.array(1.5)]
    kept = [spooled(array) for array in arrays]
    for array, copy in zip(arrays, kept, strict=True):
        assert not copy.flags.writeable
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(copy, array)


def test_spooling_needs_few_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPOOL_FROM", 1000)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 50, hard))
    try:
        kept = [spooled(np.full(300, n, np.float32)) for n in range(200)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [array[-1] for array in kept] == list(range(200))


def test_threads_spool_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPOOL_FROM", 1000)
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda n: spooled(np.full(1000 + n, n, np.int64)), range(200)))
    assert all((array == n).all() for n, array in enumerate(kept))


def _spool_and_check(number: int) -> bool:
    kept = [spooled(np.full(300_000, number * 100 + n, np.float32)) for n in range(5)]
    return all((array == number * 100 + n).all() for n, array in enumerate(kept))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_do_not_share_a_spool() -> None:
    mine = spooled(np.full(300_000, -1, np.float32))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(_spool_and_check, range(4)))
    assert (mine == -1).all()


# External data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"all_tensors_to_one_file": False}])
@pytest.mark.parametrize("threshold", [0, 1024])
def test_external_data_comes_inside(
    options: dict[str, Any], threshold: int, tmp_path: Path
) -> None:
    proto = external(tmp_path / "in", size_threshold=threshold, convert_attribute=True, **options)
    target = tmp_path / "out.onnx"
    Model.load(tmp_path / "in" / "m.onnx").save(target)
    saved = onnx.load(target, load_external_data=False)
    assert not [t for t in weights.tensors(saved) if t.external_data]
    assert Model.load(target).to_bytes() == saved.SerializeToString(deterministic=True)
    assert comparable(saved) == comparable(onnx.load(tmp_path / "in" / "m.onnx"))
    assert comparable(saved) == comparable(proto)


def comparable(proto: ModelProto) -> ModelProto:
    for tensor in weights.tensors(proto):
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return proto


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="no folder of real models here")
def test_real_external_models(tmp_path: Path) -> None:
    for path in sorted((SHARED / "models" / "external").glob("*.onnx")):
        Model.load(path).save(tmp_path / path.name)
        expected = comparable(onnx.load(path))
        assert comparable(onnx.load(tmp_path / path.name)) == expected
        Model.load(path).save(tmp_path / "ext.onnx", external=True)
        assert comparable(onnx.load(tmp_path / "ext.onnx")) == expected


def test_weights_go_out_on_request(tmp_path: Path) -> None:
    proto = ir_features.large_everywhere()
    del proto.training_info[:]
    path = tmp_path / "m.onnx"
    Model.from_proto(proto).save(path, external=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    bare = onnx.load(path, load_external_data=False)
    assert max(len(t.raw_data) for t in weights.tensors(bare)) < wire.THRESHOLD
    for tensor in weights.tensors(bare):
        if tensor.external_data:
            assert [e.key for e in tensor.external_data] == ["location", "offset", "length"]
            assert tensor.external_data[0].value == "m.onnx.data"
    assert Model.load(path).to_bytes() == proto.SerializeToString(deterministic=True)


def test_writing_the_same_weights_again_leaves_their_file_alone(tmp_path: Path) -> None:
    proto, data = ir_features.large_everywhere(), tmp_path / "m.onnx.data"
    Model.from_proto(proto).save(tmp_path / "m.onnx", external=True)
    before = data.stat()
    Model.from_proto(proto).save(tmp_path / "m.onnx", external=True)
    assert (data.stat().st_ino, data.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", [b"", b"more", b"less"])
def test_a_file_of_other_bytes_is_not_taken_for_the_weights(tmp_path: Path, change: bytes) -> None:
    proto, data = ir_features.large_everywhere(), tmp_path / "m.onnx.data"
    Model.from_proto(proto).save(tmp_path / "m.onnx", external=True)
    content = data.read_bytes()
    other = {b"": b"\xff" + content[1:], b"more": content + b"\0", b"less": content[:-1]}[change]
    data.write_bytes(other)
    Model.from_proto(proto).save(tmp_path / "m.onnx", external=True)
    bare = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    (location,) = {t.external_data[0].value for t in weights.tensors(bare) if t.external_data}
    assert (tmp_path / location).read_bytes() == content


def test_streaming_cuts_large_weights_and_gives_their_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, given_back = weights.Store(), list[int]()
    monkeypatch.setattr(weights, "_CHUNK", 8)
    monkeypatch.setattr(store, "forget_pages", lambda: given_back.append(1))
    content: list[bytes | wire.Buffer] = [b"12345", np.arange(20, dtype=np.uint8), b""]
    parts = list(store.stream(content))
    assert b"".join(parts) == b"12345" + bytes(range(20))
    assert max(map(len, parts)) == 8
    assert len(given_back) == 2


def test_small_tensors_stay_inside_and_large_ones_are_aligned(tmp_path: Path) -> None:
    tensors = [ir_features.floats(f"w{n}", n) for n in (1, 301, 20_001, 255, 30_000)]
    path = tmp_path / "m.onnx"
    Model.from_proto(ir_features.model([], initializers=tensors)).save(path, external=True)
    bare = onnx.load(path, load_external_data=False).graph.initializer
    entries = [{e.key: e.value for e in tensor.external_data} for tensor in bare]
    assert [bool(entry) for entry in entries] == [False, True, True, False, True]
    assert [int(e["offset"]) % 64 for e in entries if e and int(e["length"]) >= 1 << 16] == [0, 0]
    assert [int(e["length"]) for e in entries if e] == [4 * 301, 4 * 20_001, 4 * 30_000]
    assert [int(e["offset"]) for e in entries if e] == sorted(
        int(e["offset"]) for e in entries if e
    )
    complete = onnx.load(path).graph.initializer
    assert [t.raw_data for t in complete] == [t.raw_data for t in tensors]


def test_data_in_a_subfolder_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    path = rewired(tmp_path, location="deep/er/w.bin")
    (tmp_path / "w.bin").rename(tmp_path / "deep" / "er" / "w.bin")
    expected = numpy_helper.to_array(ir_features.floats("w", ir_features.LARGE))
    np.testing.assert_array_equal(values_of(Model.load(path))["w"], expected)


def test_a_relative_path_needs_no_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewired(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = Model.load("m.onnx")
    model.save("n.onnx")
    assert values_of(Model.load("n.onnx"))["w"].size == ir_features.LARGE


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"location": "../w.bin"}, "outside"),
        ({"location": "a/../../w.bin"}, "outside"),
        ({"location": "..\\w.bin"}, "outside"),
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "C:\\w.bin"}, "w.bin"),
        ({"location": ""}, "outside"),
        ({"location": "missing.bin"}, "cannot be read"),
        ({"location": "folder"}, "cannot be read"),
        ({"location": "w\0.bin"}, "cannot be read"),
        ({"location": "n" * 300}, "cannot be read"),
        ({"location": "leaves"}, "outside"),
        ({"location": "empty.bin"}, "do not exist"),
        ({"location": "onnxslim-weight:7"}, "does not exist"),
        ({"offset": "8"}, "do not exist"),
        ({"offset": "-4"}, "do not exist"),
        ({"offset": "99999999999999999999"}, "do not exist"),
        ({"length": "4"}, "do not exist"),
        ({"length": "-1"}, "do not exist"),
        ({"length": "much"}, "bad external data"),
        ({"offset": "0x10"}, "bad external data"),
    ],
)
def test_bad_references_are_refused(entries: dict[str, str], why: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (home / "empty.bin").touch()
    (tmp_path / "w.bin").write_bytes(b"\0" * 4 * ir_features.LARGE)
    (home / "leaves").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match=why):
        Model.load(rewired(home, **entries))


@pytest.mark.parametrize("place", ["attribute", "subgraph", "function", "sparse", "training"])
def test_references_are_checked_wherever_they_stand(place: str, tmp_path: Path) -> None:
    proto = ir_features.large_everywhere()
    graph = proto.graph
    tensor = {
        "attribute": graph.node[1].attribute[0].t,
        "subgraph": graph.node[0].attribute[1].g.initializer[0],
        "function": proto.functions[0].node[0].attribute[0].t,
        "sparse": graph.node[2].attribute[0].sparse_tensor.values,
        "training": proto.training_info[0].algorithm.initializer[0],
    }[place]
    assert len(tensor.raw_data) > wire.THRESHOLD
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    expected = proto.SerializeToString(deterministic=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add(key="location", value="w.bin")
    assert Model.from_proto(proto, tmp_path).to_bytes() == expected
    assert Model.from_proto(proto, tmp_path).proto().SerializeToString() == expected
    entry.value = "../w.bin"
    with pytest.raises(ModelError, match="outside"):
        Model.from_proto(proto, tmp_path)
    with pytest.raises(ModelError, match="give the path"):
        Model.from_proto(proto)


def test_a_proto_with_external_data_is_read_relative_to_the_given_folder(tmp_path: Path) -> None:
    proto = onnx.load(rewired(tmp_path), load_external_data=False)
    assert values_of(Model.from_proto(proto, tmp_path))["w"].size == ir_features.LARGE
    assert proto.graph.initializer[0].external_data


# Saving -------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Model:
    return Model.from_proto(ir_features.everything())


@pytest.mark.parametrize("form", [False, True])
def test_saving_twice_gives_identical_files(form: bool, model: Model, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    model.save(tmp_path / "m.onnx", external=form)
    first = files()
    model.save(tmp_path / "m.onnx", external=form)
    assert files() == first
    assert len(first) == 1 + form


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("target", [False, True])
def test_saving_in_place(source: bool, target: bool, model: Model, tmp_path: Path) -> None:
    path, expected = tmp_path / "m.onnx", model.to_bytes()
    model.save(path, external=source)
    for _ in range(3):
        loaded = Model.load(path)
        loaded.save(path, external=target)
        assert loaded.to_bytes() == expected, "the maps of the old file must stay good"
        assert Model.load(path).to_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"][: 1 + target]


def test_saving_other_weights_in_place(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model.save(path, external=True)
    for step in range(3):
        loaded = Model.load(path)
        for tensor in loaded.constants():
            tensor.values = np.full_like(tensor.values, step)
        loaded.save(path, external=True)
        assert all((array == step).all() for array in values_of(Model.load(path)).values())
        assert len(list(tmp_path.iterdir())) == 2


def test_a_data_file_of_another_model_is_left_alone(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.onnx", external=True)
    expected = model.to_bytes()
    (tmp_path / "m.onnx").rename(tmp_path / "kept.onnx")  # its data file keeps its name
    other = Model.from_proto(ir_features.large_everywhere())
    other.save(tmp_path / "m.onnx", external=True)
    assert Model.load(tmp_path / "kept.onnx").to_bytes() == expected
    assert Model.load(tmp_path / "m.onnx").to_bytes() == other.to_bytes()


def test_too_large_a_model_gets_external_data(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "LARGEST_FILE", model.size())
    with pytest.raises(ModelError, match="2 GiB"):
        model.to_bytes()
    model.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").is_file()
    monkeypatch.setattr(weights, "LARGEST_FILE", model.size() + 1)
    model.save(tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    "name", ["", "folder", "missing/m.onnx", "file/m.onnx", "n" * 300, "nul\0.onnx"]
)
@pytest.mark.parametrize("form", [False, True])
def test_where_nothing_can_be_written(name: str, form: bool, model: Model, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        model.save(tmp_path / name, external=form)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(model: Model, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        model.save(tmp_path / "m.onnx")


def test_the_file_gets_the_usual_permissions(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.onnx")
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.onnx").stat().st_mode == (tmp_path / "plain").stat().st_mode


def failing_after(pieces: int, error: BaseException) -> Callable[[Any], memoryview]:
    left = iter(range(pieces))

    def view(piece: Any) -> memoryview:
        if next(left, None) is None:
            raise error
        return memoryview(piece)

    return view


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("pieces", range(5))
@pytest.mark.parametrize("form", [False, True])
def test_a_failed_save_changes_nothing(
    form: bool,
    pieces: int,
    error: BaseException,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model.save(tmp_path / "m.onnx", external=form)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = Model.load(tmp_path / "m.onnx")
    for tensor in changed.constants():
        tensor.values = np.zeros_like(tensor.values)
    monkeypatch.setattr(wire, "view", failing_after(pieces, error))
    with pytest.raises((OutputError, KeyboardInterrupt)):
        changed.save(tmp_path / "m.onnx", external=form)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    strays = {path.name for path in tmp_path.iterdir()} - before.keys()
    assert all(name.endswith(".data") for name in strays), "a temporary file was left behind"


ENDLESS = """
import sys, time
import numpy as np
from pathlib import Path
from onnxslim.ir import Model, weights, wire

model = Model.load(sys.argv[1])
for tensor in model.constants():
    tensor.values = np.zeros_like(tensor.values)
view, count = wire.view, int(sys.argv[3])
def slow(piece):
    global count
    if not count:
        print("writing", flush=True)
        time.sleep(60)
    count -= 1
    return view(piece)
wire.view = slow
model.save(sys.argv[1], external=sys.argv[2] == "1")
"""


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("pieces", [1, 4])
def test_a_killed_save_changes_nothing(
    form: bool, pieces: int, model: Model, tmp_path: Path
) -> None:
    path, expected = tmp_path / "m.onnx", model.to_bytes()
    model.save(path, external=form)
    child = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), str(int(form)), str(pieces)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        os.kill(child.pid, signal.SIGKILL)
    assert Model.load(path).to_bytes() == expected
    model.save(path, external=form)
    assert Model.load(path).to_bytes() == expected


def pieces_of(proto: ModelProto) -> Iterator[bytes]:
    """Split at every boundary that the skeleton and its weights have."""
    kept: list[Any] = []

    def keep(buffer: Any) -> str:
        kept.append(buffer)
        return str(len(kept) - 1)

    content = proto.SerializeToString(deterministic=True)
    skeleton = wire.deflate(memoryview(content), keep)
    assert len(skeleton) < len(content)
    yield from (wire.view(p).tobytes() for p in wire.inflate(skeleton, lambda key: kept[int(key)]))


def test_inflating_is_the_inverse_of_deflating() -> None:
    proto = ir_features.large_everywhere()
    assert b"".join(pieces_of(proto)) == proto.SerializeToString(deterministic=True)


def test_a_pass_that_makes_a_large_constant_needs_no_protobuf() -> None:
    proto = ir_features.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [ir_features.info("x")],
        [ir_features.info("y")],
        [ir_features.floats("w")],
    )
    model = Model.from_proto(proto)
    array = np.arange(1_000_000, dtype=np.float32)
    next(model.constants()).values = array
    assert model.skeleton().ByteSize() < 1000
    np.testing.assert_array_equal(numpy_helper.to_array(model.proto().graph.initializer[0]), array)
