"""Slim every model below a folder, each in its own process, and tell how it went.

    python benchmarks/corpus.py FOLDER [--output corpus.json] [--limit SECONDS]
    python benchmarks/corpus.py FOLDER --passes lossless,quantize-static --data random:4

With ``--data``, lossy passes may be named too; ``--max-error`` is their budget. What a pass
declined is in the JSON file.

For each ``.onnx`` file: whether onnxruntime loads it, nodes, parameters and bytes before and after,
the largest error relative to an output's scale, seconds, peak memory in MB, and a verdict:

* ``ok``          valid, same interface, same outputs within rounding, not one byte larger
* ``unvalidated`` onnxruntime cannot load the original; slimmed with a warning that says so
* ``refused``     bad input, refused in one line
* ``WRONG`` / ``LARGER`` / ``CRASH`` / ``HANG``: a bug; the exit status is then 1
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BAD = {"WRONG", "LARGER", "CRASH", "HANG"}
WIDTHS = (46, 11, 15, 21, 23, 9, 8, 7, 30)


def slim_one(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Slim one model in this process."""
    from onnxslim import api, runtime
    from onnxslim.errors import BrokenModel, CannotRun, InputError

    def loads(source: Path, optimize: bool) -> bool:
        try:
            runtime.Session(source, optimize=optimize)
        except CannotRun:
            return False
        return True

    start = time.perf_counter()
    row: dict[str, Any] = {"loads": loads(path, optimize=False)}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "small.onnx"
        try:
            outcome = api.run(path, **options)
            outcome.save(target)
        except InputError as error:
            return row | {"verdict": "refused", "reason": str(error)}
        except BrokenModel as error:
            return row | {"verdict": "WRONG", "reason": str(error)}
        row["on_disk"] = sum(file.stat().st_size for file in Path(folder).iterdir())
        usable = all(loads(target, level) for level in (False, True) if loads(path, level))
    report = outcome.report
    row |= report.as_dict()
    row["seconds"] = time.perf_counter() - start
    row["verdict"] = _verdict(row, report.validation.passed, bool(report.changed), usable)
    return row


def _verdict(row: dict[str, Any], passed: bool | None, changed: bool, usable: bool) -> str:
    if not usable:
        return "WRONG"
    if row["on_disk"] > row["before"]["bytes"]:
        return "LARGER"
    if passed or not changed:
        return "ok"
    return "unvalidated"


def _child(path: Path, options: str) -> None:
    row = slim_one(path, json.loads(options))
    row["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(row))


def run(path: Path, options: dict[str, Any], limit: float) -> dict[str, Any]:
    """Slim one model in a process of its own, *limit* seconds at most."""
    command = [sys.executable, __file__, str(path), "--child", json.dumps(options)]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"verdict": "HANG", "seconds": limit}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        seconds = time.perf_counter() - start
        return {"verdict": "CRASH", "reason": last, "seconds": seconds}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """Return the printed columns of a row."""
    pairs = ["", "", ""]
    if "before" in row:
        pairs = [
            f"{row['before'][key]:,} > {row['after'][key]:,}"
            for key in ("nodes", "parameters", "bytes")
        ]
    error = (row.get("validation") or {}).get("relative")
    return [
        name,
        row["verdict"],
        *pairs,
        "-" if error is None else f"{error:.1e}",
        f"{row.get('seconds', 0):.1f}",
        f"{row.get('megabytes', 0):.0f}",
        row.get("reason") or "; ".join(row.get("warnings", [])),
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("corpus.json"))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds per model")
    parser.add_argument("--passes", default="lossless")
    parser.add_argument("--data", help="calibration data that suit all models: random:4")
    parser.add_argument("--max-error", type=float)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args.folder, args.child)
        return 0
    options = {"passes": args.passes, "data": args.data, "max_error": args.max_error}
    paths = sorted(args.folder.rglob("*.onnx"))
    rows: dict[str, dict[str, Any]] = {}
    header = ["model", "verdict", "nodes", "parameters", "bytes", "error", "seconds", "MB", "notes"]
    _print(header)
    with ThreadPoolExecutor(args.jobs) as pool:
        for path, row in zip(
            paths, pool.map(lambda path: run(path, options, args.limit), paths), strict=True
        ):
            name = str(path.relative_to(args.folder))
            rows[name] = row
            _print(cells(name, row))
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    verdicts = [row["verdict"] for row in rows.values()]
    print(", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts))))
    return 1 if BAD.intersection(verdicts) else 0


def _print(columns: list[str]) -> None:
    print("  ".join(f"{text:<{w}}" for text, w in zip(columns, WIDTHS, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
