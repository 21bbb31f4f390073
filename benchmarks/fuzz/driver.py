"""Workers that try one seed after another, and the one who watches them."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.printer
import onnxruntime as ort

from benchmarks.fuzz.oracle import COMPARING, GROWING, OPTIMIZING, SLIMMING, Case, Find, grown
from benchmarks.fuzz.shrink import shrink

TRIED, KEPT, NODES, FINDS, DOUBTS = range(5)
"""What is counted."""
_STUCK, _ASLEEP = 120.0, 3600.0
"""So many seconds of processor time for one model are too many, and so many of any other time."""
_OFTEN = 2
"""Finds that look alike are shrunk and written so many times."""
_SAID = 1000
"""After so many models, it is said how far the search is."""
_EVERY = 64
"""After so many models, garbage is collected."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    seconds: float
    seed: int
    jobs: int
    output: Path
    edits: bool


def work(
    first: int, careful: bool, options: Options, deadline: float, counts: Any, current: Any
) -> None:
    """Try one seed after another, the first with care; runs in a process of its own."""
    known: Counter[str] = Counter()
    ort.set_default_logger_severity(4)
    warnings.simplefilter("ignore")  # numpy's, of what has no element
    gc.disable()
    seed = first
    while seed == first or time.time() < deadline:
        current[:] = seed, time.time(), GROWING
        signal.setitimer(signal.ITIMER_PROF, _STUCK)  # whose signal ends the process
        counts[TRIED] += 1
        case = grown(seed, options.edits)
        if case is not None:
            case.careful = careful and seed == first
            case.reach = lambda stage: current.__setitem__(2, stage)
            find = case.check()
            counts[KEPT] += case.kept
            counts[NODES] += len(case.proto.graph.node) if case.kept else 0
            if find is not None:
                counts[DOUBTS if find.doubtful else FINDS] += 1
                known[find.key] += 1
                current[2] = GROWING  # what variants do to the process says nothing
                if known[find.key] <= _OFTEN:
                    report(seed, case, find, options.output)
        seed += options.jobs
        if counts[TRIED] % _EVERY == 0:
            gc.collect()


def report(seed: int, case: Case, find: Find, output: Path) -> None:
    """Write what was found; then, if a pass is at fault, shrink it and write it again."""
    print(f"seed {seed}: {find.kind}: {find.detail}"[:300], flush=True)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{find.kind}-{seed}"
    write(path, case, f"seed {seed}: {find.kind}: {find.detail}")
    if not find.doubtful:
        write(path, shrink(case, find), f"seed {seed}: {find.kind}: {find.detail}")


def write(path: Path, case: Case, title: str) -> None:
    """Write a model as text, with its first feed, and as a file."""
    values = "\n".join(
        f"{name} = {np.array2string(np.asarray(value, object), threshold=60)}"
        for name, value in case.feeds[0].items()
    )
    head = f"{title} {case.edits or ''}\n{values}".replace("\n", "\n# ")
    path.with_suffix(".txt").write_text(f"# {head}\n{onnx.printer.to_text(case.proto)}\n")
    path.with_suffix(".onnx").write_bytes(case.proto.SerializeToString())


class Worker:
    """A process, what it counts, and where it is."""

    def __init__(self, options: Options, deadline: float, seed: int) -> None:
        """Start at *seed*."""
        self.context = multiprocessing.get_context("fork")
        self.options, self.deadline = options, deadline
        self.counts: Any = self.context.Array("q", 5, lock=False)
        self.start(seed)

    def start(self, seed: int, careful: bool = False) -> None:
        """Start a process at *seed*."""
        self.current: Any = self.context.Array("d", 3, lock=False)
        self.careful = seed if careful else None
        arguments = (seed, careful, self.options, self.deadline, self.counts, self.current)
        self.process = self.context.Process(target=work, args=arguments)
        self.process.start()

    def watch(self) -> bool:
        """Replace the process where it hangs or has died; say whether there is one."""
        asleep = self.process.is_alive() and 0 < self.current[1] < time.time() - _ASLEEP
        if asleep:
            self.process.kill()
            self.process.join()
        if not self.process.exitcode:
            return self.process.is_alive()
        seed, _, stage = self.current
        if stage == COMPARING and seed != self.careful:
            self.counts[TRIED] -= 1
            self.start(int(seed), careful=True)  # to see whether it was the original
            return True
        stuck = asleep or self.process.exitcode == -signal.SIGPROF
        self._mourn("hangs" if stuck else f"ends the process ({self.process.exitcode})")
        if time.time() >= self.deadline:
            return False
        self.start(int(self.current[0]) + self.options.jobs)
        return True

    def _mourn(self, how: str) -> None:
        """Say where the process ended, unless onnxruntime fell over the original."""
        seed, _, stage = self.current
        raised = self.process.exitcode == 1  # in Python, by no fault of onnxruntime
        if stage == GROWING and not raised:
            return
        self.counts[DOUBTS if stage == OPTIMIZING and not raised else FINDS] += 1
        what = {SLIMMING: "slimming", COMPARING: "the result"}.get(stage, "onnxruntime")
        what = "the fuzzer" if raised else what
        print(f"seed {int(seed)}: {what} {how}", flush=True)


def watch(options: Options) -> int:
    """Keep the workers going until the time is up; return the number of finds."""
    begin = time.time()
    workers = [
        Worker(options, begin + options.seconds, options.seed + job) for job in range(options.jobs)
    ]
    said = 0
    while workers_left(workers):
        time.sleep(0.2)
        if sum(worker.counts[TRIED] for worker in workers) >= said + _SAID:
            said += _SAID
            summarize(workers, options.seed, time.time() - begin)
    return summarize(workers, options.seed, time.time() - begin)


def summarize(workers: list[Worker], seed: int, seconds: float) -> int:
    """Print what was done so far; return the number of finds."""
    tried, kept, nodes, finds, doubts = (
        sum(worker.counts[slot] for worker in workers) for slot in range(5)
    )
    print(
        f"{tried} models from seed {seed} in {seconds:.0f} s, "
        f"{kept} kept ({kept / max(tried, 1):.0%}), {nodes / max(kept, 1):.1f} nodes each; "
        f"{finds} finds, {doubts} of onnxruntime's own or in its last digits",
        flush=True,
    )
    return int(finds)


def workers_left(workers: list[Worker]) -> list[Worker]:
    """Return the workers that have not ended by themselves."""
    return [worker for worker in workers if worker.watch()]
