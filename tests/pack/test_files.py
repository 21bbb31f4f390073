"""Packed files: bit for bit back, on disk and in memory, and safe to open from anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ir_features
import onnxslim
from benchmarks.pack import damage
from kit import model
from onnxslim.cli import main
from onnxslim.errors import OutputError
from onnxslim.ir.wire import encode_varint
from onnxslim.pack import container, load, pack, unpack
from onnxslim.pack.container import Content
from onnxslim.pack.text import zstd

GOLDEN = Path(__file__).parents[1] / "golden" / "packed.onnxz"
SHARED = Path(__file__).parents[3] / "shared" / "models"
TEXT = """main (float[N, 64] x) => (float[N, 64] y) { m = MatMul(x, w) y = Add(m, b) }"""
RNG = np.random.default_rng(0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    proto = model(TEXT).proto()
    for name, shape in (("w", (64, 64)), ("b", (64,))):
        array = RNG.normal(0, 0.1, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def packed(source: Path) -> Path:
    pack(source, source.with_suffix(".onnxz"))
    return source.with_suffix(".onnxz")


def comes_back(path: Path) -> int:
    """Pack and unpack the file at *path*; return its packed size."""
    folder = path.parent / "unpacked"
    folder.mkdir(exist_ok=True)
    target = path.with_suffix(".onnxz")
    before, after = pack(path, target)
    assert unpack(target, folder / path.name) == (after, before)
    for file in folder.iterdir():
        assert file.read_bytes() == (path.parent / file.name).read_bytes(), file
    return after


def test_a_model_comes_back_smaller_than_by_zstandard(source: Path) -> None:
    assert comes_back(source) < 0.95 * len(zstd(source.read_bytes()))


@pytest.mark.parametrize("name", [n for n in dir(ir_features) if n.startswith("large_")])
def test_every_place_of_weights_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(getattr(ir_features, name)().SerializeToString())
    comes_back(path)


def test_floats_outside_raw_data_are_found(tmp_path: Path) -> None:
    values = RNG.normal(0, 1, 3_000).astype(np.float32)
    tensor = TensorProto(dims=[3000], data_type=1, float_data=values, name="w")
    node = helper.make_node("SVMRegressor", ["x"], ["y"], domain="ai.onnx.ml", rho=values)
    graph = helper.make_graph([node], "g", [], [], [tensor])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert comes_back(path) < 0.9 * 2 * values.nbytes


def test_external_data_comes_back(source: Path) -> None:
    proto = onnx.load(source)
    onnx.save(proto, source, save_as_external_data=True, location="w.bin", size_threshold=1)
    assert source.with_name("w.bin").exists()
    assert comes_back(source) < 0.9 * source.with_name("w.bin").stat().st_size
    assert (source.parent / "unpacked" / "w.bin").exists()


def test_external_data_of_another_model_is_kept(source: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="w.bin")
    pack(source, source.with_suffix(".onnxz"))
    there = tmp_path / "there"
    there.mkdir()
    (there / "w.bin").write_bytes(b"other")
    with pytest.raises(OutputError, match="is other data"):
        unpack(source.with_suffix(".onnxz"), there / "m.onnx")
    assert [file.name for file in there.iterdir()] == ["w.bin"]


def test_the_same_model_twice_gives_the_same_bytes(source: Path, packed: Path) -> None:
    first = packed.read_bytes()
    pack(source, packed)
    assert packed.read_bytes() == first


def test_load_gives_the_model(source: Path, packed: Path) -> None:
    assert onnxslim.load(packed).to_bytes() == onnxslim.load(source).to_bytes()


def test_the_command_reads_and_writes_packed_models(packed: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnxz"
    assert main([str(packed), "-o", str(small), "-q"]) == 0
    assert [node.op for node in load(small).graph.nodes] == ["Gemm"]


def test_commands_pack_and_unpack(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, back = (str(source.with_name(name)) for name in ("s.onnxz", "back.onnx"))
    assert main(["pack", str(source), "-o", small]) == 0
    assert main(["unpack", small, "-o", back]) == 0
    assert Path(back).read_bytes() == source.read_bytes()
    assert f"% of {source.stat().st_size:,}" in capsys.readouterr().out


def test_a_file_packed_by_the_first_version_unpacks(tmp_path: Path) -> None:
    unpack(GOLDEN, tmp_path / "m.onnx")
    weights = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert {tensor.name for tensor in weights} == {"w", "b", "codes"}


# What others may have done to a file.


def refused(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that says why *data* is refused; nothing else may be left."""
    folder = tmp_path / "refused"
    folder.mkdir()
    path = tmp_path / "bad.onnxz"
    path.write_bytes(data)
    assert main(["unpack", str(path), "-o", str(folder / "m.onnx")]) == 2
    assert not list(folder.iterdir())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_file_cut_short_is_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cut short" in refused(packed.read_bytes()[:-9], tmp_path, capsys)


def test_a_flipped_bit_is_noticed(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(packed.read_bytes())
    data[-1000] ^= 1
    assert "checksum" in refused(bytes(data), tmp_path, capsys)


def test_a_later_format_is_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = packed.read_bytes()
    assert "update onnxslim" in refused(data[:4] + b"\x09" + data[5:], tmp_path, capsys)


def test_what_is_no_packed_model_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not a packed model" in refused(source.read_bytes(), tmp_path, capsys)


def test_a_bomb_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = encode_varint(0) + encode_varint(1 << 40)
    bomb = b"ONXZ\x01" + bytes(4) + encode_varint(len(text) * 4) + text
    assert "--max-bytes" in refused(bomb, tmp_path, capsys)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a\\b", "C:evil", ""])
def test_external_data_stays_in_the_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Content({"x": memoryview(b"\x08\x08"), name: memoryview(b"data")}, lambda: None)
    said = refused(b"".join(container.packed(content, [])), tmp_path, capsys)
    assert "outside" in said


def test_files_the_model_does_not_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Content({"": memoryview(b"\x08\x08"), "setup.py": memoryview(b"")}, lambda: None)
    said = refused(b"".join(container.packed(content, [])), tmp_path, capsys)
    assert "not those that the model refers to" in said


def test_damaged_files_are_refused(source: Path, tmp_path: Path) -> None:
    assert damage([source], tmp_path, 300)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_refused(tmp_path: Path) -> None:
    paths = sorted(path for path in SHARED.rglob("*.onnx") if path.stat().st_size < 300_000)
    assert damage(paths, tmp_path, 10_000)


def test_without_the_extra_a_line_says_how_to_install(packed: Path) -> None:
    code = (
        "import sys; sys.modules['constriction'] = None; from onnxslim.cli import main; "
        f"sys.exit(main(['unpack', {str(packed)!r}, '-o', {str(packed) + 'x'!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'onnxslim[pack]'" in done.stderr
