"""How time and memory grow with the model: large weights, and many nodes.

    python benchmarks/scale.py weights [--gigabytes 3]     peak memory against the weights
    python benchmarks/scale.py nodes [--counts 10000 50000 100000]

Each measurement runs the command line in a process of its own on a generated model in a temporary
folder. Memory is the largest resident set (file-backed pages included) and the largest anonymous
part of it, sampled every 5 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 17)]
WIDTH = 8192


@dataclass(frozen=True)
class Usage:
    """What a run took: seconds of wall and processor time, megabytes at the peak."""

    wall: float
    cpu: float
    resident: float
    anonymous: float


def large(folder: Path, gigabytes: float) -> Path:
    """Write a chain of MatMul, Identity and Relu with float32 weights in an external file."""
    layers = max(1, round(gigabytes * 2**30 / (WIDTH * WIDTH * 4)))
    rng, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    with (folder / "weights.bin").open("wb") as file:
        for layer in range(layers):
            name = f"w{layer}"
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            where = (("location", "weights.bin"), ("offset", file.tell()), ("length", WIDTH**2 * 4))
            for key, value in where:
                tensor.external_data.add(key=key, value=str(value))
            block = rng.standard_normal((256, WIDTH), np.float32) / np.float32(WIDTH**0.5)
            for start in range(0, WIDTH, 256):
                file.write(np.roll(block, start + layer, axis=1).tobytes())
            weights.append(tensor)
            nodes += [
                helper.make_node("MatMul", [x, name], [f"m{layer}"]),
                helper.make_node("Identity", [f"m{layer}"], [f"i{layer}"]),
                helper.make_node("Relu", [f"i{layer}"], [f"r{layer}"]),
            ]
            x = f"r{layer}"
    return _save(folder, nodes, weights, x, [1, WIDTH])


def long(folder: Path, count: int) -> Path:
    """Write a model of about *count* small nodes, a third of them superfluous."""
    nodes, weights, x = [], [], "x"
    for block in range(count // 6):
        weights.append(numpy_helper.from_array(np.full(8, 1 + block % 7, np.float32), f"w{block}"))
        nodes += [
            helper.make_node("Mul", [x, f"w{block}"], [f"a{block}"], name=f"mul_{block}"),
            helper.make_node("Relu", [f"a{block}"], [f"b{block}"], name=f"relu_{block}"),
            helper.make_node("Transpose", [f"b{block}"], [f"c{block}"], perm=[0, 1]),
            helper.make_node("Identity", [f"c{block}"], [f"d{block}"]),
            helper.make_node("Tanh", [f"d{block}"], [f"e{block}"]),
            helper.make_node("Add", [f"e{block}", x], [f"f{block}"], name=f"add_{block}"),
        ]
        x = f"f{block}"
    return _save(folder, nodes, weights, x, [1, 8])


def _save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    result: str,
    shape: list[int],
) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", result))
    graph = helper.make_graph(nodes, "scale", [x], [y])
    graph.initializer.extend(weights)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def measure(model: Path, *options: str) -> Usage:
    """Slim *model* and watch the process."""
    output = model.with_name("small.onnx")
    for old in model.parent.glob("small.onnx*"):
        old.unlink()
    command = [sys.executable, "-m", "onnxslim", str(model), "-o", str(output), "-q", *options]
    start, resident, anonymous, cpu = time.perf_counter(), 0, 0, 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            break
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        resident = max(resident, int(fields.get("VmHWM", "0 kB").split()[0]))
        anonymous = max(anonymous, int(fields.get("RssAnon", "0 kB").split()[0]))
        if len(ticks) > 12:
            cpu = (int(ticks[11]) + int(ticks[12])) / 100
        time.sleep(0.005)
    if process.wait():
        raise SystemExit(f"onnxslim failed with status {process.returncode}")
    return Usage(time.perf_counter() - start, cpu, resident / 1024, anonymous / 1024)


def weights(gigabytes: float) -> None:
    """Print memory against the size of the weights, with and without validation."""
    with tempfile.TemporaryDirectory() as folder:
        model = large(Path(folder), gigabytes)
        size = (Path(folder) / "weights.bin").stat().st_size / 2**20
        print(f"weights {size:,.0f} MB")
        for check in ("off", "end"):
            use = measure(model, "--check", check)
            print(
                f"--check {check:<4} {use.wall:6.1f} s wall {use.cpu:6.1f} s cpu   resident "
                f"{use.resident:7,.0f} MB = {use.resident / size:.2f} x   anonymous "
                f"{use.anonymous:7,.0f} MB = {use.anonymous / size:.2f} x"
            )


def nodes(counts: list[int]) -> None:
    """Print time and memory against the number of nodes, without validation.

    Onnxruntime itself takes quadratic time to load long graphs, so validation is left out.
    """
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            use = measure(long(Path(folder), count), "--check", "off")
        print(
            f"{count:>8,} nodes {use.cpu:6.1f} s cpu = {use.cpu / count * 1e6:5.0f} us a node"
            f"   resident {use.resident:6,.0f} MB"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["weights", "nodes"])
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    args = parser.parse_args()
    if args.what == "weights":
        weights(args.gigabytes)
    else:
        nodes(args.counts)


if __name__ == "__main__":
    main()
