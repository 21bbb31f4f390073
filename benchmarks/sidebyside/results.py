"""Results that survive an interruption, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, str, int]


class Results:
    """One JSON object a line: what a tool made of a case in a round. The last one counts."""

    def __init__(self, path: Path | None, redo: Iterable[str] = ()) -> None:
        """Read what *path* holds but the results of the tools to *redo*."""
        self._path, self.rows = path, dict[Key, Row]()
        if path is None or not path.exists():
            return
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["tool"] not in redo:
                self.rows[row["case"], row["tool"], row["round"]] = row

    def add(self, case: str, tool: str, values: Row, round: int = 0) -> None:
        """Keep a result and write it down at once."""
        row = {"case": case, "tool": tool, "round": round} | values
        self.rows[case, tool, round] = row
        if self._path is not None:
            with self._path.open("a") as file:
                print(json.dumps(row), file=file)

    def get(self, case: str, tool: str, round: int = 0) -> Row | None:
        """Return a result if there is one."""
        return self.rows.get((case, tool, round))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
