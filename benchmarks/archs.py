"""Slim the graphs of a folder and compare node counts, outputs, bytes and latency.

    python benchmarks/archs.py FOLDER [NAME ...] [--check end|off|each] [--time] [--json FILE]

FOLDER holds graphs, ``ARCHITECTURE.EXPORTER.onnx`` or skeletons ``….skel.xz`` whose weights
``../tools/skeleton.py`` beside it draws anew, feeds ``ARCHITECTURE.in0.npz``, and ``best.json``,
the fewest nodes known of each. NAMEs select graphs that contain them. Two Markdown tables come out:

* each graph: nodes, bytes, the largest error on the given feeds, what validation would allow there
  and what the last bit of the feeds changes in the input's outputs, and with ``--time`` the latency
  on one thread with all of onnxruntime's optimizations, as a part of the input's (medians of
  alternating runs);
* each architecture: the fewest and the most nodes over the exporters of opset 17 and later.

The exit status is 1 if a result is LARGER, WRONG, or has more nodes than the best known (OVER).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from onnxslim import Calibration, Model, api, runtime
from onnxslim.base import Effect
from onnxslim.errors import OnnxslimError
from onnxslim.validate import Reference

RUNS = 31
MAGNIFIED = 10
"""Up to so many times what the last bit of the inputs changes, an error says more of the model."""
ENOUGH = 0.02
"""Seconds that one timed block takes at least."""


def graphs(folder: Path, names: list[str]) -> Iterator[tuple[str, Path, dict[str, Path]]]:
    """Yield name, file and feeds of the graphs that *names* select."""
    for path in sorted([*folder.glob("*.skel.xz"), *folder.glob("*.onnx")]):
        name = path.name.removesuffix(".skel.xz").removesuffix(".onnx")
        if not names or any(part in name for part in names):
            feeds = sorted(folder.glob(f"{name.split('.')[0]}.in*.npz"))
            yield name, path, {feed.stem: feed for feed in feeds}


def restored(path: Path, target: Path) -> Path:
    """Return the graph as a file that onnxruntime loads."""
    if path.suffix == ".onnx":
        return path
    tool = path.parent.parent / "tools" / "skeleton.py"
    spec = importlib.util.spec_from_file_location("skeleton", tool)
    if spec is None or spec.loader is None:
        sys.exit(f"{tool} does not exist; it restores skeletons")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.restore(path, target)
    return target


def measure(source: Path, feeds: list[Path], folder: Path, args: argparse.Namespace) -> Any:
    """Slim one graph and look at the result."""
    start = time.process_time()
    outcome = api.run(source, check=args.check)
    seconds = time.process_time() - start
    target = folder / "slim.onnx"
    outcome.save(target)
    report = outcome.report
    row: dict[str, Any] = {
        "before": report.before.nodes,
        "after": report.after.nodes,
        "bytes": [source.stat().st_size, target.stat().st_size],
        "opset": outcome.model.opset,
        "seconds": seconds,
        "warnings": list(report.warnings),
        "left": report.after.ops,
    }
    loaded = [dict(np.load(feed)) for feed in feeds]
    if loaded:
        reference = Reference(source, Model.load(source), Calibration.of(loaded))
        found = reference.compare(target, Effect.ROUNDING)
        row["error"], row["allowed"] = found.relative, found.allowed
        nudged = [nudge(feed) for feed in loaded]
        row["magnified"] = max(
            apart(runtime.Session(source, optimize=False), *pair)
            for pair in zip(loaded, nudged, strict=True)
        )
        if args.time:
            row["latency"] = latency(source, target, loaded[0])
    return row


def nudge(feed: dict[str, Any]) -> dict[str, Any]:
    """Move floats to the next larger one."""
    return {
        name: np.nextafter(value, np.inf, dtype=value.dtype) if value.dtype.kind == "f" else value
        for name, value in feed.items()
    }


def apart(session: runtime.Session, one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return how far apart the outputs for two feeds are, relative to their scale."""
    first, second = session.run(one), session.run(other)
    return max(
        float(np.abs(value.astype(float) - second[name]).max() / (np.abs(value).max() or 1))
        for name, value in first.items()
    )


def latency(source: Path, target: Path, feed: dict[str, Any]) -> float:
    """Return the run time of *target* as a part of that of *source*."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in (source, target)
    ]
    sessions[0].run(None, feed)
    start = time.process_time()
    sessions[0].run(None, feed)
    count = max(1, round(ENOUGH / (time.process_time() - start)))
    times: list[list[float]] = [[], []]
    for turn in range(RUNS):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.process_time()
            for _ in range(count):
                sessions[which].run(None, feed)
            times[which].append(time.process_time() - start)
    return statistics.median(times[1]) / statistics.median(times[0])


def verdict(row: dict[str, Any], best: int | None) -> str:
    """Say what is wrong with a result, if anything."""
    if row["bytes"][1] > row["bytes"][0]:
        return "LARGER"
    if row.get("error", 0) > row.get("allowed", 0):
        return "magnified" if row["error"] <= MAGNIFIED * row.get("magnified", 0) else "WRONG"
    return "OVER" if best is not None and row["after"] > best else "ok"


def cells(name: str, row: dict[str, Any], best: int | None) -> list[str]:
    """Return a row of the table."""
    if "refused" in row:
        return [name, "", "", "", "", "", "", "", f"refused: {row['refused']}"]
    error, ratio = row.get("error"), row.get("latency")
    return [
        name,
        str(row["before"]),
        str(row["after"]),
        "" if best is None else str(best),
        f"{100 * (1 - row['after'] / best):.0f} %" if best else "",
        f"{100 * row['bytes'][1] / row['bytes'][0]:.1f} %",
        "" if error is None else f"{error:.0e} / {row['allowed']:.0e} / {row['magnified']:.0e}",
        "" if ratio is None else f"{ratio:.2f}",
        "; ".join([verdict(row, best), *row["warnings"]]),
    ]


HEADER = (
    "graph | before | after | best known | fewer | bytes | error / allowed / last bit"
    " | latency | verdict"
)


def spread(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the second table."""
    groups: dict[str, list[int]] = {}
    for name, row in rows.items():
        if row.get("opset", 0) >= 17:
            groups.setdefault(name.split(".")[0], []).append(row["after"])
    yield "| architecture | exporters | fewest | most | apart |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, counts in groups.items():
        low, high = min(counts), max(counts)
        yield f"| {name} | {len(counts)} | {low} | {high} | {100 * (high / low - 1):.1f} % |"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", choices=("end", "off", "each"), default="end")
    parser.add_argument("--time", action="store_true", help="measure latency too")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    args = parser.parse_args()
    known = args.folder / "best.json"
    best: dict[str, int] = json.loads(known.read_text()) if known.exists() else {}
    rows: dict[str, dict[str, Any]] = {}
    print(f"| {HEADER} |\n|{' --- |' * len(HEADER.split('|'))}")
    for name, path, feeds in graphs(args.folder, args.names):
        with tempfile.TemporaryDirectory() as folder:
            source = restored(path, Path(folder) / "model.onnx")
            try:
                rows[name] = measure(source, list(feeds.values()), Path(folder), args)
            except OnnxslimError as error:
                rows[name] = {"refused": str(error)}
        print(f"| {' | '.join(cells(name, rows[name], best.get(name)))} |", flush=True)
    print("", *spread(rows), sep="\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    judged = [verdict(r, best.get(n)) for n, r in rows.items() if "refused" not in r]
    return int(any(word.isupper() for word in judged))


if __name__ == "__main__":
    sys.exit(main())
