"""Collect ONNX's backend tests of several releases as folders, and list those that differ.

    corpus.py FOLDER VERSION...

Tests kept as files come from the wheels on PyPI; node tests that a release makes in Python instead
are written down when it is the installed one. Writes FOLDER/index.json.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
INSIDE = "onnx/backend/test/data/"


def fetch(version: str, folder: Path) -> None:
    """Unpack the tests in the wheel of a release. Any platform's wheel will do."""
    target = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]
    target += ["--platform=manylinux_2_28_x86_64", "--no-deps", "--quiet"]
    pip = [sys.executable, "-m", "pip", "download", *target, f"onnx=={version}"]
    subprocess.run([*pip, "--dest", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            kind, _, rest = name.removeprefix(INSIDE).partition("/")
            if name.startswith(INSIDE) and not name.endswith("/") and kind in (*KINDS, "light"):
                path = folder / kind / rest
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
    wheel.unlink()


def write_node_tests(folder: Path) -> None:
    """Write the tests that the installed onnx makes, with inputs and outputs."""
    from onnx.backend.test import loader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reference computations
        cases = loader.load_model_tests(kind="node")
    for case in cases:
        assert case.model is not None
        place = folder / "node" / case.name
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(case.model.SerializeToString())
        graph = case.model.graph
        for number, (inputs, outputs) in enumerate(case.data_sets or ()):
            data = place / f"test_data_set_{number}"
            data.mkdir(exist_ok=True)
            for stem, infos, values in (
                ("input", graph.input, inputs),
                ("output", graph.output, outputs),
            ):
                for index, (info, value) in enumerate(zip(infos, values, strict=False)):
                    (data / f"{stem}_{index}.pb").write_bytes(_encoded(value, info))


def _encoded(value: Any, info: onnx.ValueInfoProto) -> bytes:
    if hasattr(value, "SerializeToString"):
        return bytes(value.SerializeToString())
    kind = info.type.WhichOneof("value")
    if kind == "optional_type" and value is None:
        proto: Any = onnx.OptionalProto(name=info.name)
    elif kind == "optional_type":
        proto = numpy_helper.from_optional(value, info.name)
    elif kind == "sequence_type":
        proto = numpy_helper.from_list(list(value), info.name)
    else:
        proto = numpy_helper.from_array(value, info.name)
    return bytes(proto.SerializeToString())


def listed(folder: Path, version: str) -> Iterator[dict[str, Any]]:
    """Yield the cases of a release."""
    for kind in KINDS:
        for model in sorted((folder / kind).glob("*/model.onnx")):
            sets = sorted(str(path) for path in model.parent.glob("test_data_set_*"))
            name = f"{version}/{kind}/{model.parent.name}"
            yield {"name": name, "model": str(model), "sets": sets}
    for model in sorted((folder / "light").glob("*.onnx")):
        yield {"name": f"{version}/light/{model.stem}", "model": str(model)}


def key(model: Path) -> bytes:
    """Return what two models have in common that differ in who wrote them only."""
    proto = onnx.load(model)
    for field in ("ir_version", "producer_name", "producer_version", "doc_string"):
        proto.ClearField(field)
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).digest()


def main() -> None:
    """Run from the command line."""
    folder, versions = Path(sys.argv[1]), sys.argv[2:]
    cases, seen = [], set()
    for version in versions:
        place = folder / version
        if not (place / "done").exists():
            print(f"collecting the tests of onnx {version}", file=sys.stderr)
            place.mkdir(parents=True, exist_ok=True)
            fetch(version, place)
            if version == onnx.__version__ and not (place / "node").exists():
                write_node_tests(place)
            (place / "done").touch()
        for case in listed(place, version):
            mark = key(Path(case["model"]))
            if mark not in seen:
                seen.add(mark)
                cases.append(case)
    (folder / "index.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
