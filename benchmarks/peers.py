"""Side by side with other optimizers: are the results right, how small, at what cost?

    python benchmarks/peers.py backend                  ONNX's backend tests of four releases
    python benchmarks/peers.py archs FOLDER             exporter graphs: size, outputs, time, memory
    python benchmarks/peers.py models FOLDER            models: size and outputs
    python benchmarks/peers.py chains [--counts ...]    time and memory against the number of nodes
    python benchmarks/peers.py large [--gigabytes ...]  time and memory with large weights

Peers are installed from PyPI, each in a virtual environment of its own below ``--cache``. With
``--output FILE`` results are written down one by one and a second call goes on where the first
stopped; ``--redo ours`` forgets those of a tool. Each tool runs as its command line does by
default; ``ours-unchecked`` is this project without its comparison with the original, which no peer
makes by default. sidebyside/judge.py says what counts as right.

``--rounds 0`` takes no times: each tool works in one process, which saves most of the waiting.
Processor seconds are those of all processes of a command, wall seconds depend on what else the
machine does. Tools take turns, the order shifts with every case and round, tables give medians.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.sidebyside import measure
from benchmarks.sidebyside.results import Results, Row, table
from benchmarks.sidebyside.tools import COMMON, HERE, ROOT, TOOLS, environment, install
from benchmarks.sidebyside.workers import Died, Worker

Case = dict[str, Any]
RELEASES = ("1.18.0", "1.16.2", "1.14.1")
"""Releases of onnx whose backend tests are taken beside those of the installed one."""
LIMIT = 600.0
"""Seconds for a verdict."""
BAD = ("crash", "invalid", "interface", "wrong")

LEGEND = """\
`*` has operators beyond the standard that the original does not have. Bytes are relative to the
original's, then without metadata and doc strings ("notes")."""


class Bench:
    """What every comparison needs: tools, results, and a judge."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cache = args.cache.expanduser()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.tools = {name: install(name, self.cache) for name in args.tools}
        self.workers = {n: Worker(t.server(), t.environment()) for n, t in self.tools.items()}
        self.results = Results(args.output, args.redo)
        judge = [sys.executable, "-m", "benchmarks.sidebyside.judge"]
        self._judge = Worker(judge, environment(ours=True))

    def wanted(self, cases: Sequence[Case]) -> Iterator[Case]:
        """Yield the cases that are asked for, and tell of progress."""
        cases = [case for case in cases if fnmatch.fnmatch(case["name"], self.args.only)]
        for number, case in enumerate(cases):
            tell(f"{number + 1}/{len(cases)} {case['name']}")
            yield case

    def describe(self, case: Case) -> Row:
        """Note what the original is made of."""
        known = self.results.get(case["name"], "original")
        if not known:
            known = self._judge.ask({"case": case}, self.args.limit)
            self.results.add(case["name"], "original", known)
        return known

    def compare(self, case: Case, turn: int, judged: bool = True) -> None:
        """Run every tool on a case, as often as times are wanted; *turn* says which is first."""
        for round in range(max(1, self.args.rounds)):
            for name in _turned(list(self.tools), turn + round):
                if not self.results.get(case["name"], name, round) and not self._is_too_slow(name):
                    row = self._run(case, name, judged and round == 0)
                    self.results.add(case["name"], name, row, round)

    def _is_too_slow(self, tool: str) -> bool:
        """Whether a tool ran out of time on an earlier and smaller case."""
        rows = (row for row in self.results.rows.values() if row["tool"] == tool)
        grows = self.args.what == "chains"
        return grows and any(row["reason"].startswith("not done") for row in rows)

    def _run(self, case: Case, tool: str, judged: bool) -> Row:
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            target = Path(folder) / "small.onnx"
            row = self._measured(case, tool, target) if self.args.rounds else {}
            reason = row.pop("failure") if row else self._worked(case, tool, target)
            if reason or not target.exists():
                return row | {"verdict": "crash", "reason": reason or "wrote nothing"}
            return row | self._verdict(case, target, judged)

    def _measured(self, case: Case, tool: str, target: Path) -> Row:
        """Run a tool's own command."""
        installed = self.tools[tool]
        command = installed.command(Path(case["model"]), target)
        return asdict(measure.run(command, installed.environment(), self.args.limit))

    def _worked(self, case: Case, tool: str, target: Path) -> str:
        """Let a tool's worker do it and return what went wrong, then in a new process too."""
        request, worker = {"input": case["model"], "output": str(target)}, self.workers[tool]
        fresh, reason = not worker.running, self._asked(worker, request)
        if reason and not fresh:
            worker.close()
            reason = self._asked(worker, request)
        return reason

    def _asked(self, worker: Worker, request: Row) -> str:
        try:
            return str(worker.ask(request, self.args.limit).get("error", ""))
        except Died as reason:
            return str(reason)

    def _verdict(self, case: Case, target: Path, judged: bool) -> Row:
        request = {"case": case, "result": str(target), "judged": judged}
        try:
            answer: Row = self._judge.ask(request, LIMIT)
        except Died as reason:
            return {"verdict": "unjudged", "reason": f"the judge: {reason}"}
        return answer

    def median(self, case: str, tool: str, field: str) -> float | None:
        """Return the median over the rounds, None where a run failed or no times were taken."""
        rows = [self.results.get(case, tool, round) for round in range(self.args.rounds)]
        if not all(row and row["verdict"] != "crash" for row in rows):
            return None
        return statistics.median(row[field] for row in rows if row) if rows else None

    def close(self) -> None:
        """End all processes."""
        for worker in (self._judge, *self.workers.values()):
            worker.close()


def tell(progress: str) -> None:
    """Say what is going on, on a line that the next call overwrites."""
    print(progress, end="\x1b[K\r", file=sys.stderr)


# Backend tests ------------------------------------------------------------------------------------


def backend(bench: Bench) -> None:
    """Judge every tool on ONNX's backend tests, many in one process."""
    folder = bench.cache / "backend"
    releases = [version("onnx"), *RELEASES]
    collect = [sys.executable, str(HERE / "corpus.py"), str(folder), *releases]
    subprocess.run(collect, check=True, env=environment(ours=True))
    cases = json.loads((folder / "index.json").read_text())
    bench.args.rounds = 0
    for case in bench.wanted(cases):
        bench.compare(case, 0)
    verdicts = ("ok", "unjudged", *BAD)
    print(f"\n{len(cases)} cases\n")
    print(table(["tool", *verdicts], (_counts(bench, name, verdicts) for name in bench.tools)))
    _list_failures(bench)


def _counts(bench: Bench, tool: str, verdicts: Sequence[str]) -> list[str]:
    found = [row["verdict"] for row in bench.results.rows.values() if row["tool"] == tool]
    return [tool, *(str(found.count(verdict)) for verdict in verdicts)]


def _list_failures(bench: Bench) -> None:
    """Print what went wrong with our own results."""
    for row in bench.results.rows.values():
        if row["tool"].startswith("ours") and row["round"] == 0 and row["verdict"] in BAD:
            print(f"\n{row['tool']}: {row['case']}: {row['verdict']}: {row['reason']}")


# Folders of models --------------------------------------------------------------------------------


def models(bench: Bench) -> None:
    """Compare the tools on the models and skeletons below a folder."""
    names = []
    for number, case in enumerate(bench.wanted(list(_found(bench.args.folder)))):
        case["model"] = str(_restored(bench, Path(case["model"])).resolve())
        if refusal := bench.describe(case)["refused"]:
            print(f"left out: {case['name']}: {refusal}")
            continue
        names.append(case["name"])
        bench.compare(case, number)
    print("\n" + table(["model", "before", *bench.tools, "best peer"], _node_rows(bench, names)))
    print(f"\n{LEGEND}\n")
    print(_summary(bench, names))
    for name, ours, best in _lost(bench, names):
        print(f"\nnot the best: {name}: {ours} nodes, best peer {best}")
    _list_failures(bench)


def _found(folder: Path) -> Iterator[Case]:
    """Yield the models and skeletons below a folder with their feeds."""
    for path in sorted((*folder.rglob("*.onnx"), *folder.rglob("*.skel.xz"))):
        name = path.name.removesuffix(".skel.xz").removesuffix(".onnx")
        inside = path.parent.relative_to(folder)
        sets = sorted(path.parent.glob(f"{path.stem}_test_data_set_*"))
        if name == "model":
            name = ""
            sets += sorted(path.parent.glob("test_data_set_*"))
        feeds = sorted(path.parent.glob(f"{name.partition('.')[0]}.in*.npz"))
        case = {"name": str(inside / name), "model": str(path)}
        yield case | {"sets": list(map(str, sets)), "feeds": list(map(str, feeds))}


def _restored(bench: Bench, path: Path) -> Path:
    """Return the model of a skeleton; the script that restores it lies in ../tools."""
    if path.suffix == ".onnx":
        return path
    target: Path = bench.cache / "restored" / path.name.replace(".skel.xz", ".onnx")
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        script = path.parents[1] / "tools" / "skeleton.py"
        partial = target.with_suffix(".partial")
        subprocess.run([sys.executable, script, "restore", path, partial], check=True)
        partial.rename(target)
    return target


def _turned(items: list[str], by: int) -> list[str]:
    by %= len(items)
    return items[by:] + items[:by]


def _best(bench: Bench, case: str) -> int | None:
    """Return the fewest nodes that a peer reached, rightly and in standard operators."""
    rows = [
        bench.results.get(case, name)
        for name, installed in bench.tools.items()
        if not installed.tool.ours
    ]
    return min((row["nodes"] for row in rows if row and _stands(bench, row)), default=None)


def _stands(bench: Bench, row: Row) -> bool:
    return row["verdict"] in ("ok", "unjudged") and not _added(bench, row)


def _added(bench: Bench, row: Row) -> set[str]:
    """Return the operators beyond the standard that only the result has."""
    original = bench.results.get(row["case"], "original") or {}
    return set(row.get("foreign", ())) - set(original.get("foreign", ()))


def _node_rows(bench: Bench, names: Sequence[str]) -> Iterator[list[str]]:
    for name in names:
        original = bench.results.get(name, "original") or {}
        cells = [_node_cell(bench, bench.results.get(name, tool)) for tool in bench.tools]
        best = _best(bench, name)
        yield [name, str(original["nodes"]), *cells, "-" if best is None else str(best)]


def _node_cell(bench: Bench, row: Row | None) -> str:
    if row is None or "nodes" not in row:
        return "-" if row is None else str(row["verdict"])
    mark = "*" if _added(bench, row) else ""
    note = "" if row["verdict"] == "ok" else f" {row['verdict']}"
    return f"{row['nodes']}{mark}{note}"


def _lost(bench: Bench, names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    for name in names:
        row, best = bench.results.get(name, "ours"), _best(bench, name)
        if row and best is not None and row.get("nodes", best) > best:
            yield name, row["nodes"], best


def _summary(bench: Bench, names: Sequence[str]) -> str:
    header = ["tool", "right", *BAD, "unjudged", "fewest nodes", "larger file"]
    header += ["median bytes", "without notes"]
    header += ["median s cpu", "cpu against ours", "median s wall", "median MB", "largest MB"]
    return table(header, (_summary_row(bench, tool, names) for tool in bench.tools))


def _summary_row(bench: Bench, tool: str, names: Sequence[str]) -> list[str]:
    rows = [row for name in names if (row := bench.results.get(name, tool))]
    verdicts = [row["verdict"] for row in rows]
    stand = [row for row in rows if _stands(bench, row)]
    originals = {name: bench.results.get(name, "original") or {} for name in names}
    written = [row for row in rows if "bytes" in row]
    sizes = [row["bytes"] / originals[row["case"]]["bytes"] for row in written]
    bare = [_bare(row) / _bare(originals[row["case"]]) for row in written]
    return [
        tool,
        *(str(verdicts.count(verdict)) for verdict in ("ok", *BAD, "unjudged")),
        str(sum(row["nodes"] <= _fewest(bench, row["case"]) for row in stand)),
        str(sum(size > 1 for size in sizes)),
        *(f"{statistics.median(values):.1%}" if values else "-" for values in (sizes, bare)),
        _median(bench, tool, names, "cpu"),
        _ratio(bench, tool, names),
        _median(bench, tool, names, "wall"),
        _median(bench, tool, names, "resident", ".0f"),
        f"{max((row.get('resident', 0) for row in rows), default=0):.0f}",
    ]


def _bare(row: Row) -> int:
    """Return the bytes of a model without its metadata and doc strings."""
    return int(row["bytes"] - row["notes"])


def _fewest(bench: Bench, case: str) -> int:
    rows = (bench.results.get(case, name) for name in bench.tools)
    return min((int(row["nodes"]) for row in rows if row and _stands(bench, row)), default=0)


def _median(bench: Bench, tool: str, names: Sequence[str], field: str, format: str = ".2f") -> str:
    values = [v for name in names if (v := bench.median(name, tool, field)) is not None]
    return f"{statistics.median(values):{format}}" if values else "-"


def _ratio(bench: Bench, tool: str, names: Sequence[str]) -> str:
    """Return the geometric mean of processor time against ours, where both came to an end."""
    pairs = ((bench.median(n, tool, "cpu"), bench.median(n, "ours", "cpu")) for n in names)
    ratios = [theirs / ours for theirs, ours in pairs if theirs and ours]
    return f"{statistics.geometric_mean(ratios):.2f}" if ratios else "-"


# Generated models ---------------------------------------------------------------------------------


def chains(bench: Bench) -> None:
    """Compare time and memory on chains of small nodes; past its limit a tool is left out."""
    for count in bench.args.counts:
        _generated(bench, f"{count} nodes", "long", count, judged=count < 10_000)
    _print_usage(bench, [f"{count} nodes" for count in bench.args.counts])


def large(bench: Bench) -> None:
    """Compare time and memory on a model with large weights."""
    name = f"{bench.args.gigabytes} GiB"
    _generated(bench, name, "large", bench.args.gigabytes, judged=False)
    _print_usage(bench, [name])


def _generated(bench: Bench, name: str, what: str, size: float, judged: bool) -> None:
    """Run the tools on what a function of scale.py makes."""
    tell(name)
    with tempfile.TemporaryDirectory(dir=bench.cache) as folder:
        code = f"import pathlib; from benchmarks import scale; scale.{what}(pathlib.Path(), {size})"
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, cwd=folder, env=environment(ours=True))
        case = {"name": name, "model": str(Path(folder) / "model.onnx")}
        bench.describe(case)
        bench.compare(case, 0, judged)


def _print_usage(bench: Bench, names: Sequence[str]) -> None:
    header = ["model", "tool", "nodes", "s cpu", "s wall", "resident MB", "anonymous MB", "verdict"]
    print("\n" + table(header, (_usage(bench, n, tool) for n in names for tool in bench.tools)))


def _usage(bench: Bench, name: str, tool: str) -> list[str]:
    row = bench.results.get(name, tool)
    if row is None:
        return [name, tool, *["-"] * 5, "left out: too slow before"]
    numbers = [_median(bench, tool, [name], field, ".1f") for field in ("cpu", "wall")]
    numbers += [_median(bench, tool, [name], field, ",.0f") for field in ("resident", "anonymous")]
    verdict = row["reason"] if row["verdict"] == "crash" else row["verdict"]
    return [name, tool, str(row.get("nodes", "-")), *numbers, verdict]


# Command line -------------------------------------------------------------------------------------


def about(bench: Bench) -> str:
    """Return what was compared, when, and where."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    peers = [wanted for tool in bench.tools.values() for wanted in tool.tool.requirements]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    chip = next((line.partition(": ")[2] for line in lines if "model name" in line), "?")
    return (
        f"{datetime.date.today()}; {chip}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}; this project at {commit.stdout.strip() or '?'} with onnx "
        f"{version('onnx')} and onnxruntime {version('onnxruntime')}; peers with "
        f"{' and '.join(COMMON)}: {', '.join(peers) or 'none'}"
    )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), metavar="TOOL")
    common.add_argument("--cache", type=Path, default=Path("~/.cache/onnxslim-peers"))
    common.add_argument("--output", type=Path, help="JSON lines; read first if it exists")
    common.add_argument("--redo", nargs="+", default=[], metavar="TOOL")
    common.add_argument("--limit", type=float, default=300.0, help="seconds a case")
    common.add_argument(
        "--rounds", type=int, default=1, help="how often times are taken; 0 for not at all"
    )
    common.add_argument("--only", default="*", metavar="PATTERN", help="cases with such names")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("backend", parents=[common])
    for name in ("archs", "models"):
        what.add_parser(name, parents=[common]).add_argument("folder", type=Path)
    counts = what.add_parser("chains", parents=[common])
    counts.add_argument("--counts", type=int, nargs="+", default=[1000, 8000, 50_000])
    size = what.add_parser("large", parents=[common])
    size.add_argument("--gigabytes", type=float, default=2.25)
    return parser.parse_args()


COMPARE = {"backend": backend, "archs": models, "models": models, "chains": chains, "large": large}


def main() -> None:
    """Run from the command line."""
    args = parsed()
    bench = Bench(args)
    print(about(bench))
    try:
        COMPARE[args.what](bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
