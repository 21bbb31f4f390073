"""Processes that answer requests one by one, and are started anew when they die or hang."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


class Died(Exception):
    """The worker ended, or took too long and was ended, while it had a request."""


class Worker:
    """A process that reads a JSON request a line and writes a JSON answer a line."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Any, limit: float) -> Any:
        """Return the answer to *request*. Raises Died, after *limit* seconds too."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
        except BrokenPipeError:
            raise Died(self._end()) from None
        ready, _, _ = select.select([process.stdout], [], [], limit)
        if not ready:
            self._end()
            raise Died(f"not done after {limit:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise Died(self._end())
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._end()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self._process

    def _end(self) -> str:
        process, self._process = self._process, None
        assert process is not None
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        with process:
            pass
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
