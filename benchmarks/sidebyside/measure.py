"""What a command takes: wall time, processor time of all its processes, memory at the peak."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STEP = 0.01
"""Seconds between two looks at memory."""


@dataclass(frozen=True)
class Usage:
    """Seconds and megabytes of one run; *failure* is empty when it ended with status 0.

    *resident* is the most memory that one of its processes held, mapped files included;
    *anonymous* the most that all of them held beyond mapped files, sampled.
    """

    wall: float
    cpu: float
    resident: float
    anonymous: float
    failure: str


def run(command: Sequence[str], environment: Mapping[str, str], limit: float) -> Usage:
    """Run *command* for *limit* seconds at most.

    Call this from a small process: a child's peak memory includes what it was forked from.
    """
    with tempfile.TemporaryFile() as errors:
        start, anonymous, late = time.perf_counter(), 0, False
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            anonymous = max(anonymous, sum(_anonymous(child) for child in _tree(process.pid)))
            if not late and time.perf_counter() - start > limit:
                late = True
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(STEP)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        last = (errors.read().decode(errors="replace").strip().splitlines() or [""])[-1][:200]
    cpu = used.ru_utime + used.ru_stime
    failure = f"not done after {limit:.0f} s" if late else _failure(process.returncode, last)
    return Usage(wall, cpu, used.ru_maxrss / 1024, anonymous / 1024, failure)


def _failure(status: int, last: str) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit {status}: {last}" if status else ""


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _tree(int(child))


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
